import sys

from phyla.cli import main

sys.exit(main())
