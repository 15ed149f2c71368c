import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

// One classic script and one style sheet of fixed names: they open from disk, where modules may not be loaded, and a
// build of the same source gives the same files.
export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    outDir: process.env.PAGE_OUT ?? '../src/phyla/app/page',
    emptyOutDir: true,
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      input: 'src/main.ts',
      output: { format: 'iife', entryFileNames: 'page.js', assetFileNames: 'page[extname]' },
    },
  },
  publicDir: 'public',
})
