/**
 * How sharp a loaded picture is: the variance of its Laplacian (Pech-Pacheco et al., 2000), all pictures brought to one
 * size first, so that a large blurred one does not win by its size. 0 where pictures may not be looked into: in a page
 * that is opened from disk.
 */
export function sharpness(picture: HTMLImageElement): number {
  if (location.protocol === 'file:') return 0
  const side = 128
  const sheet = new OffscreenCanvas(side, side).getContext('2d', { willReadFrequently: true })!
  sheet.drawImage(picture, 0, 0, side, side)
  const { data } = sheet.getImageData(0, 0, side, side)
  const grey = Float32Array.from({ length: side * side }, (_, i) => data[4 * i]! + 2 * data[4 * i + 1]! + data[4 * i + 2]!)
  let sum = 0
  let squares = 0
  let n = 0
  for (let y = 1; y < side - 1; y++)
    for (let i = y * side + 1, end = i + side - 2; i < end; i++, n++) {
      const bend = grey[i - 1]! + grey[i + 1]! + grey[i - side]! + grey[i + side]! - 4 * grey[i]!
      sum += bend
      squares += bend * bend
    }
  return squares / n - (sum / n) ** 2
}
