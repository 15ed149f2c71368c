/** Where the tiles of a treemap lie. */

export interface Box {
  x: number
  y: number
  w: number
  h: number
}

/**
 * Cut a box into one for each size, areas as the sizes are. The order stays: the sizes are halved where their sums are
 * most equal, the box across its longer side, and so on with the halves; so neighbours in the hierarchy lie together
 * (squarified treemaps tear them apart), and tiles are hardly longer than squares.
 */
export function tiles(sizes: number[], box: Box): Box[] {
  if (sizes.length < 2) return sizes.map(() => box)
  const sum = sizes.reduce((a, b) => a + b, 0)
  let cut = 1
  let before = sizes[0]!
  while (cut < sizes.length - 1 && Math.abs(before + sizes[cut]! - sum / 2) < Math.abs(before - sum / 2))
    before += sizes[cut++]!
  const share = before / sum
  const { x, y, w, h } = box
  const wide = w >= h
  const one = wide ? { x, y, w: w * share, h } : { x, y, w, h: h * share }
  const other = wide ? { x: x + one.w, y, w: w - one.w, h } : { x, y: y + one.h, w, h: h - one.h }
  return [...tiles(sizes.slice(0, cut), one), ...tiles(sizes.slice(cut), other)]
}

/** The number of the tile nearest to tile `from` in a direction; `from` where there is none. */
export function beside(boxes: Box[], from: number, dx: number, dy: number): number {
  const middle = (b: Box) => [b.x + b.w / 2, b.y + b.h / 2] as const
  const here = boxes[from]
  if (!here) return 0
  const [x, y] = middle(here)
  let best = from
  let least = Infinity
  boxes.forEach((box, i) => {
    const [u, v] = middle(box)
    const along = (u - x) * dx + (v - y) * dy
    const across = Math.abs((u - x) * dy) + Math.abs((v - y) * dx)
    if (i !== from && along > 1 && along + 2 * across < least) {
      least = along + 2 * across
      best = i
    }
  })
  return best
}

/** How many square pictures a box shows, and how large: at most `most`, no smaller than `least` pixels. */
export function mosaic(w: number, h: number, most: number, least: number): { columns: number; lines: number } {
  let side = Math.max(least, Math.sqrt((w * h) / Math.max(1, most)))
  for (; ; side *= 1.05) {
    const columns = Math.max(1, Math.floor(w / side))
    const lines = Math.max(1, Math.floor(h / side))
    if (columns * lines <= most) return { columns, lines }
  }
}
