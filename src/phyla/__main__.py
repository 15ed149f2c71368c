from phyla.cli import run

run()
