/**
 * Points of a map, drawn by the processor into an image.
 *
 * A million points take 15 ms so, with a graphics card or without; WebGL on a machine without one takes a second
 * (docs/benchmarks.md). Points are sorted into cells once: what is out of sight is not looked at, and points that lie
 * next to each other are written next to each other.
 */

const CELLS = 64 // along each side of −1..1

/** The middle of what is seen, and how much larger it is than the whole. */
export interface View {
  x: number
  y: number
  zoom: number
}

export const HIDDEN = 0
export const FAINT = 1
export const SHOWN = 2
export const CHOSEN = 3

export class Points {
  readonly n: number
  /** (n,) by place: points of one cell have neighbouring places. */
  readonly row: Int32Array
  readonly x: Float32Array
  readonly y: Float32Array
  readonly colour: Uint32Array // 0xaabbggrr
  readonly layer: Uint8Array // HIDDEN, FAINT, SHOWN or CHOSEN: each is drawn over those before it
  #start = new Int32Array(CELLS * CELLS + 1)
  #layers = [false, false, false, false]

  /** xy (2n,): x and y of each row, −1..1, y upwards. */
  constructor(xy: Float32Array) {
    const n = (this.n = xy.length / 2)
    this.row = new Int32Array(n)
    this.x = new Float32Array(n)
    this.y = new Float32Array(n)
    this.colour = new Uint32Array(n)
    this.layer = new Uint8Array(n).fill(SHOWN)
    const cell = new Uint16Array(n)
    for (let i = 0; i < n; i++) {
      cell[i] = number(-xy[2 * i + 1]!) * CELLS + number(xy[2 * i]!)
      this.#start[cell[i]! + 1]! += 1
    }
    for (let k = 0; k < CELLS * CELLS; k++) this.#start[k + 1]! += this.#start[k]!
    const next = this.#start.slice()
    for (let i = 0; i < n; i++) {
      const place = next[cell[i]!]!++
      this.row[place] = i
      this.x[place] = xy[2 * i]!
      this.y[place] = -xy[2 * i + 1]! // downwards from here on
    }
  }

  /** Give each row its colour and its layer. */
  paint(look: (row: number) => { colour: number; layer: number }) {
    this.#layers = [false, false, false, false]
    for (let place = 0; place < this.n; place++) {
      const { colour, layer } = look(this.row[place]!)
      this.colour[place] = colour
      this.layer[place] = layer
      this.#layers[layer] = true
    }
  }

  /** Runs of places [from, to) whose cells touch a rectangle of the map. */
  *runs(x0: number, y0: number, x1: number, y1: number): Generator<[number, number]> {
    for (let line = number(y0); line <= number(y1); line++)
      yield [this.#start[line * CELLS + number(x0)]!, this.#start[line * CELLS + number(x1) + 1]!]
  }

  /** Draw into `pixels` (width · height); returns how many points may be in sight. */
  draw(pixels: Uint32Array, width: number, height: number, view: View, ground: number, ink: number): number {
    pixels.fill(ground)
    const { scale, left, top } = frame(width, height, view)
    const seen = [...this.runs(-left / scale, -top / scale, (width - left) / scale, (height - top) / scale)]
    const many = seen.reduce((sum, [from, to]) => sum + to - from, 0)
    // Dots cover a quarter of what is seen, however many there are.
    const size = Math.max(2, Math.min(height / 60, Math.round(Math.sqrt((0.25 * width * height) / (many + 1)))) | 0)
    for (const layer of [FAINT, SHOWN, CHOSEN]) {
      if (!this.#layers[layer]) continue
      const side = layer === FAINT ? Math.max(2, size >> 1) : size + (layer === CHOSEN && size > 2 ? 2 : 0)
      const spans = disc(side)
      const half = side >> 1
      for (const [from, to] of seen)
        for (let place = from; place < to; place++) {
          if (this.layer[place] !== layer) continue
          const x = ((this.x[place]! * scale + left) | 0) - half
          const y = ((this.y[place]! * scale + top) | 0) - half
          if (x < 0 || y < 0 || x + side > width || y + side > height) continue
          const colour = layer === CHOSEN ? ink : this.colour[place]!
          let at = y * width + x
          if (side === 2) {
            pixels[at] = pixels[at + 1] = pixels[at + width] = pixels[at + width + 1] = colour
            continue
          }
          for (let line = 0; line < side; line++, at += width)
            for (let p = at + spans[line]!, end = at + side - spans[line]!; p < end; p++) pixels[p] = colour
        }
    }
    return many
  }

  /** The place of the nearest point that is shown, no further than `within`; −1 if there is none. */
  nearest(x: number, y: number, within: number): number {
    let best = -1
    let least = within * within
    for (const [from, to] of this.runs(x - within, y - within, x + within, y + within))
      for (let place = from; place < to; place++) {
        const d = (this.x[place]! - x) ** 2 + (this.y[place]! - y) ** 2
        if (d < least && this.layer[place]! >= SHOWN) {
          least = d
          best = place
        }
      }
    return best
  }

  /** Rows that are shown and lie where `mask` (width · height, of what is seen) is not 0. */
  under(mask: Uint8ClampedArray | null, width: number, height: number, view: View): number[] {
    const { scale, left, top } = frame(width, height, view)
    const rows: number[] = []
    for (const [from, to] of this.runs(-left / scale, -top / scale, (width - left) / scale, (height - top) / scale))
      for (let place = from; place < to; place++) {
        const x = (this.x[place]! * scale + left) | 0
        const y = (this.y[place]! * scale + top) | 0
        if (x < 0 || y < 0 || x >= width || y >= height || this.layer[place]! < SHOWN) continue
        if (!mask || mask[4 * (y * width + x) + 3]) rows.push(this.row[place]!)
      }
    return rows
  }
}

/** The cell, along one side, of a coordinate. */
const number = (at: number) => Math.max(0, Math.min(CELLS - 1, ((at + 1) / 2) * CELLS)) | 0

/** How the map lies on a picture: pixel = coordinate · scale + left (or top). */
export function frame(width: number, height: number, view: View) {
  const scale = (Math.min(width, height) / 2.1) * view.zoom
  return { scale, left: width / 2 - view.x * scale, top: height / 2 - view.y * scale }
}

/** How far the edge of a disc is from each side, line by line. */
function disc(side: number): number[] {
  const r = side / 2
  return Array.from({ length: side }, (_, line) =>
    side < 4 ? 0 : Math.round(r - Math.sqrt(Math.max(0, r * r - (line + 0.5 - r) ** 2))),
  )
}
