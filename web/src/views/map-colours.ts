/**
 * Colours that people who are colour-blind tell apart: Okabe and Ito (2008), then four that differ from these by their
 * lightness; and viridis for what has an order.
 */
export const SOME = [
  ...['#1f7fc4', '#e69f00', '#009e73', '#d55e00', '#56b4e9', '#cc79a7', '#8c8300', '#8767d2'],
  ...['#8a4b22', '#e0559b', '#6f8f9c', '#7cc242'],
]
const VIRIDIS = ['#440154', '#46327e', '#365c8d', '#277f8e', '#1fa187', '#4ac16d', '#a0da39', '#fde725']
/** Five steps, from least to most. On a dark ground the dark end is lighter. */
export const steps = (dark: boolean) => [dark ? 1 : 0, 2, 4, 5, dark ? 7 : 6].map((i) => VIRIDIS[i]!)

/** '#rrggbb' → 0xffbbggrr, as the pixels of a canvas have it. */
export function packed(colour: string): number {
  const rgb = parseInt(colour.slice(1), 16)
  return (0xff000000 | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0
}

const sheet = document.createElement('canvas').getContext('2d')!

/** The colour that a style sheet's variable has now, as '#rrggbb' however it was written. */
export function variable(name: string): string {
  sheet.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim()
  return String(sheet.fillStyle)
}

export interface Kind {
  n: number
  x: number
  y: number
  colour: string
}

/** Middle and number of the points of each kind, and colours of which those that lie near each other differ. */
export function kinds(codes: ArrayLike<number>, xy: Float32Array, count: number): Kind[] {
  const all: Kind[] = Array.from({ length: count }, () => ({ n: 0, x: 0, y: 0, colour: '' }))
  for (let row = 0; row < codes.length; row++) {
    const kind = all[codes[row]!]
    if (!kind) continue
    kind.n += 1
    kind.x += xy[2 * row]!
    kind.y -= xy[2 * row + 1]!
  }
  const done: Kind[] = []
  for (const kind of all.toSorted((a, b) => b.n - a.n)) {
    kind.x /= kind.n || 1
    kind.y /= kind.n || 1
    const far = (colour: string) =>
      Math.min(9, ...done.filter((k) => k.colour === colour).map((k) => Math.hypot(k.x - kind.x, k.y - kind.y)))
    kind.colour = SOME.reduce((best, colour) => (far(colour) > far(best) ? colour : best))
    done.push(kind)
  }
  return all
}
