/** What the page and the server say to each other. The same paths answer from files when the page was exported. */

export type Op = 'name' | 'merge' | 'split' | 'confirm' | 'move' | 'reject' | 'remove' | 'keep' | 'undo' | 'import'

/** Where a set of images comes from: `all`, `apart:cat` (called so by a person, and in no group), `group:3`, `class:cat`, `unsorted`, `unlabelled`, `waiting`, `accepted`, `removed`. */
export type Of = string
export type Order = 'typical' | 'uncertain' | 'name' | 'time'

export interface Job {
  what: 'spread' | 'audit' | 'map' | 'sort' | 'train' | 'write'
  done: number
  total: number
  rate: number // a second
  left: number | null // seconds
  error: { error: string; hint: string } | null
  finished: boolean
}

export interface Summary {
  project: string
  source: string
  view: string // changes when images or groups change: all rows mean others then
  seq: number // edits so far
  images: number // rows
  files: number
  copies: number
  unreadable: number
  removed: number
  groups: number
  unsorted: number
  labelled: number
  waiting: number // not accepted by the last spread, nor by anybody since
  answers: number
  can_undo: boolean
  can_redo: boolean
  classes: { name: string; images: number; confirmed: number }[]
  spread: { method: string; answers: number; accepted: number; stated_error: number | null; edits_since: number } | null
  findings: Record<string, number> // check → how many are open
  audited: boolean
  audit_of_other_groups: boolean
  mapped: boolean
  reads_words: boolean
  drift: { since: number; strange: number; anew: boolean } | null // since the groups were made
  read_only: boolean
  job: Job | null
}

/** A group, or a class, as a card shows it. */
export interface Card {
  of: Of
  group: number | null
  name: string | null
  suggestion: string | null
  size: number
  strength: number // mean, 0..1
  confirmed: number
  typical: number[] // rows, most typical first
  place: number // 0..1 along a line on which similar ones lie next to each other
}

export interface Node {
  of: Of | null // null for what lies between groups
  key: string // to ask for its children
  name: string | null
  size: number
  strength: number
  typical: number[]
  rows: number[] | null // pictures, at the bottom
  children: Node[] | null // null: ask `tree?key=`
}

export interface Info {
  row: number
  uri: string
  copies: string[] // other uris of the same bytes
  width: number
  height: number
  group: number
  name: string | null
  origin: 'person' | 'import' | 'spread' | 'group' | 'removed' | ''
  strength: number
  accepted: boolean
}

export interface Question {
  row: number
  why: string
  guess: string | null
  options: { name: string; proba: number }[] // likeliest first
}

/** What answers bought: one point for each spread. */
export interface Bought {
  answers: number
  accepted: number
  images: number
  stated_error: number | null
  at: string
}

/** What a classifier would get right, by network and by how many of them are asked. */
export interface Choice {
  classes: string[]
  taught_by: string
  checked: boolean // `right` is what is right; else what is as taught
  students: { backbone: string; right: number; images_per_second: number; megabytes: number; recommended: boolean }[]
  together: { right: number; images_per_second: number }
  cascade: { right: number; images_per_second: number; curve: [cost: number, right: number][] }
  edits_since: number
}

export interface Finding {
  number: number
  check: string
  severity: number
  why: string
  rows: number[]
  label: string | null // what the first image is taken for
  instead: string | null // mislabelled: what it looks like
  near: number[] // mislabelled: confirmed images that it resembles
}

/** An image that another is explained by. */
export interface Reason {
  row: number
  name: string
  answered: boolean // a person said so
  distance?: number
  push?: number // what it adds to the lead
}

/** Why an image is taken for what it is. */
export interface Why {
  row: number
  kind: 'class' | 'group'
  name: string
  rival: string | null // what it would be else
  lead: number | null
  looks: boolean // its networks can show where they look
  prototypes: Reason[] // nearest images of its name, and of the rival's
  counter_examples: Reason[]
  pushes: { for: Reason[]; against: Reason[] } // strongest first
}

/** What a group or class is. */
export interface About {
  of: Of
  name: string
  images: number
  typical: { row: number }[]
  uncertain: { row: number; strength: number }[]
  near: { row: number; name: string }[] // of others
}

/** A learned feature: how often an image of the one has more of it than one of the other, and where it is strongest. */
export interface Concept {
  unit: number
  share: number // 0.5 by chance
  rows: number[]
}

export interface Apart {
  name: string
  against_name: string | null
  more: Concept[]
  less: Concept[]
}

export interface Past {
  seq: number
  op: Op
  name: string | null
  images: number
  rows: number[] // the first few
  by: string
  at: string
  undone: boolean
  of: number | null
}

export type Edit =
  | { op: 'name'; group: number; name: string }
  | { op: 'merge'; groups: number[]; name: string }
  | { op: 'split'; group: number; names: string[] }
  | { op: 'confirm' | 'move' | 'reject'; rows: number[]; name: string }
  | { op: 'remove'; rows: number[] }
  | { op: 'keep'; rows: number[]; check: string }
  | { op: 'undo'; seq?: number }
  | { op: 'redo' }

/** Images of the collection, and pictures from elsewhere as `look` named them. */
export interface Examples {
  rows: number[]
  pictures: string[]
}

export interface Query {
  like: Examples
  without: Examples // what the found images shall not be like
  words: string
  minus: string // words for what they shall not show
}

export class Refused extends Error {
  constructor(
    message: string,
    readonly hint: string,
    readonly status: number,
  ) {
    super(message)
  }
}

declare global {
  interface Window {
    /** Set by the exported page: path → number of the file under `data/` that answers it. */
    PHYLA_PATHS?: Record<string, number>
    PHYLA_ANSWERS?: Record<number, unknown>
  }
}

const paths = window.PHYLA_PATHS

/** A file of the exported page: a script that puts its answer where this looks for it. */
function load(path: string): Promise<unknown> {
  const number = paths![path]
  if (number === undefined) return Promise.reject(new Refused('This is not in the exported page.', '', 404))
  const answers = (window.PHYLA_ANSWERS ??= {})
  if (number in answers) return Promise.resolve(answers[number])
  return new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = `data/${number}.js`
    script.onload = () => resolve(answers[number])
    script.onerror = () => reject(new Refused(`${script.src} is missing.`, 'Export the page again.', 404))
    document.head.append(script)
  })
}

async function answer(response: Response): Promise<Response> {
  if (response.ok) return response
  const said = await response.json().catch(() => ({}))
  throw new Refused(said.error ?? `The server answers ${response.status}.`, said.hint ?? '', response.status)
}

async function get<T>(path: string): Promise<T> {
  if (paths) return (await load(path)) as T
  return (await answer(await fetch(`api/${path}`))).json()
}

/** Little-endian numbers; from an exported page as base64. */
async function buffer(path: string): Promise<ArrayBuffer> {
  if (!paths) return (await answer(await fetch(`api/${path}`))).arrayBuffer()
  const text = (await load(path)) as string
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer
}

async function post<T>(path: string, body: unknown): Promise<T> {
  const headers = { 'Content-Type': 'application/json' }
  return (await answer(await fetch(`api/${path}`, { method: 'POST', headers, body: JSON.stringify(body) }))).json()
}

const q = encodeURIComponent

export const summary = () => get<Summary>('summary')
export const cards = (by: 'group' | 'class') => get<Card[]>(`cards?by=${by}`)
export const rows = async (of: Of, order: Order) => new Int32Array(await buffer(`rows?of=${q(of)}&order=${order}`))
/** An exported page holds 256 images in a file. */
export const info = async (row: number) =>
  paths ? ((await load(`images/${row >> 8}`)) as Info[])[row & 255] : get<Info>(`image/${row}`)
export const tree = (key = '') => get<Node>(`tree?key=${q(key)}`)
export const history = (n = 200) => get<Past[]>(`history?n=${n}`)
export const findings = (check: string) => get<Finding[]>(`findings?check=${q(check)}`)
export const ask = (n: number) => get<Question[]>(`ask?n=${n}`)
export const why = (row: number) => get<Why>(`why/${row}`)
export const about = (of: Of) => get<About>(`about?of=${q(of)}`)
/** From another group or class, or from all the rest. */
export const apart = (of: Of, against: Of | '') => get<Apart>(`apart?of=${q(of)}&against=${q(against)}`)
export const bought = () => get<Bought[]>('bought')

/** (2n,) x and y of each row, −1..1. */
export const points = async () => new Float32Array(await buffer('array/points'))
/** (n,) by row. group; label: index into Summary.classes, −1 = none; strength: 0..255; audit: 0..255, worst finding. */
export const groups = async () => new Int32Array(await buffer('array/groups'))
export const labels = async () => new Int32Array(await buffer('array/labels'))
export const strength = async () => new Uint8Array(await buffer('array/strength'))
export const severity = async () => new Uint8Array(await buffer('array/severity'))

/** Say something: an edit of the log. `view` is that in which its rows and groups were seen; of an older one it is refused. */
export const say = (edit: Edit, view?: string) => post<{ seq: number }>('edits', { ...edit, view })
/** How a group would be split: the parts in the order in which `names` of the edit will name them. */
export const preview = (group: number, parts: number) => post<Card[]>('preview', { group, parts })
export const start = (job: { what: 'spread' | 'audit' | 'map' | 'train' }) => post<Job>('jobs', job)
/** Rows most like the pictures and the words, nearest first; the rows that are searched by are left out. */
export const search = (query: Query, n = 200) => post<number[]>('search', { ...query, n })
/** Has a picture looked at; what comes back stands for it in searches, until the view is another. */
export async function look(picture: Blob): Promise<string> {
  const told = await answer(await fetch('api/search/picture', { method: 'POST', body: picture }))
  return (await told.json()).picture
}
async function download(path: string, body: unknown): Promise<Blob> {
  const headers = { 'Content-Type': 'application/json' }
  return (await answer(await fetch(`api/${path}`, { method: 'POST', headers, body: JSON.stringify(body) }))).blob()
}
export type Format = 'csv' | 'parquet' | 'zip' | 'tar'
export const exported = (what: { of?: Of; rows?: number[]; format: Format }) => download('export', what)
/** What the last job "train" told; null if there was none in this view. */
export const classifier = () => get<Choice | null>('classifier')
/** A classifier as a ZIP; written as the job "write". */
export const written = (what: { backbone: string | null; cascade: boolean; integer: boolean }) => download('classifier', what)

/** Address of a picture: square, of at most `side` pixels (96, 192 or 384), or the whole. */
export const thumb = (row: number, side: 96 | 192 | 384, view: string) =>
  paths ? `thumbs/${row}.webp` : `thumb/${row}?side=${side}&v=${view}`
export const picture = (row: number, view: string) => (paths ? `thumbs/${row}.webp` : `picture/${row}?v=${view}`)
/** What lies over a picture: black, and clear where the networks look, or what speaks for its name is. */
export const heat = (row: number, by: 'class' | 'picture', view: string, seq: number) =>
  `heat/${row}?by=${by}&v=${view}&seq=${seq}`

/** Tells of every edit (whoever made it), of every step of a job, and of a new view; and when nobody answers any more. */
export function listen(
  hear: (event: { seq: number; view: string; job: Job | null }) => void,
  lose: (lost: boolean) => void = () => {},
): () => void {
  if (paths) return () => {}
  const events = new EventSource('api/events')
  events.onmessage = (e) => hear(JSON.parse(e.data))
  events.onopen = () => lose(false)
  events.onerror = () => lose(true)
  return () => events.close()
}
