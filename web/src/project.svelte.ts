/**
 * What all views share. Views read `project.version` in an effect to load anew after every edit, whoever made it.
 *
 *   project.summary      what the server says of the project; null until it is there
 *   project.selection    rows that every action uses; replace the set, never change it in place
 *   project.say(edit)    says an edit, tells of it with an Undo; true if it was accepted
 *   project.like         rows that Find starts from ("more like these")
 *   project.filter       which images Map and Take away are about
 */

import * as api from './api'
import type { Edit, Job, Of, Summary } from './api'

export const NOT_A_CLASS = 'not a class'

export interface Told {
  id: number
  text: string
  hint: string
  bad: boolean
  undo: (() => void) | null
}

const number = new Intl.NumberFormat('en')
/** 12345 → 12,345. */
export const count = (n: number) => number.format(n)
/** 1, 'image' → 1 image. */
export const counted = (n: number, thing: string) => `${count(n)} ${thing}${n === 1 ? '' : 's'}`

/** A name as it is shown: names may be thousands of characters long. */
export const short = (name: string, most = 60) => (name.length > most ? `${name.slice(0, most - 1)}…` : name)

/** A text as one word of a command. */
export const quoted = (text: string) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)

/** What an edit did, for a person. */
function told(edit: Edit): string {
  switch (edit.op) {
    case 'name':
      return `Group named “${short(edit.name)}”`
    case 'merge':
      return `${counted(edit.groups.length, 'group')} named “${short(edit.name)}”`
    case 'split':
      return `Group split into ${edit.names.map((name) => `“${short(name, 20)}”`).join(', ')}`
    case 'confirm':
      return `${counted(edit.rows.length, 'image')} confirmed as “${short(edit.name)}”`
    case 'move':
      return `${counted(edit.rows.length, 'image')} moved to “${short(edit.name)}”`
    case 'reject':
      return `${counted(edit.rows.length, 'image')} not “${short(edit.name)}”`
    case 'remove':
      return `${counted(edit.rows.length, 'image')} removed from the collection`
    case 'keep':
      return `${counted(edit.rows.length, 'image')} kept`
    case 'undo':
      return 'Undone'
    case 'redo':
      return 'Done again'
  }
}

class Shared {
  summary = $state.raw<Summary | null>(null)
  job = $state.raw<Job | null>(null)
  /** Grows whenever anything that a view shows may have changed. */
  version = $state(0)
  /** The server does not answer. */
  lost = $state(false)
  selection = $state.raw<ReadonlySet<number>>(new Set<number>())
  like = $state.raw<number[]>([])
  filter = $state<Of>('all')
  told = $state.raw<Told[]>([])
  /** Names of all classes, largest first. */
  names = $derived(
    [...(this.summary?.classes ?? [])].sort((a, b) => b.images - a.images).map((known) => known.name),
  )
  /** Nothing can be changed: an exported page. */
  readOnly = $derived(this.summary?.read_only ?? true)

  #known = ''
  #loading: Promise<void> | null = null
  #again = false
  #ids = 0

  /** Load the summary and follow the server's events; returns what stops it. */
  open(): () => void {
    void this.reload()
    return api.listen(
      (event) => {
        this.lost = false
        const ended = event.job?.finished && !this.job?.finished
        if (event.job) this.job = event.job
        const other = this.summary && (event.seq !== this.summary.seq || event.view !== this.summary.view)
        if (ended || other) void this.reload()
      },
      (lost) => {
        if (this.lost && !lost) void this.reload()
        this.lost = lost
      },
    )
  }

  /** Load the summary anew; calls made while it loads share one more load. */
  reload(): Promise<void> {
    if (this.#loading) {
      this.#again = true
      return this.#loading
    }
    this.#loading = this.#load().finally(() => (this.#loading = null))
    return this.#loading
  }

  async #load() {
    do {
      this.#again = false
      try {
        const summary = await api.summary()
        const known = JSON.stringify({ ...summary, job: null })
        if (this.summary && this.summary.view !== summary.view) this.selection = new Set()
        this.summary = summary
        if (summary.job || this.job) this.job = summary.job ?? this.job
        if (known !== this.#known) this.version += 1
        this.#known = known
      } catch (fault) {
        this.complain(fault)
      }
    } while (this.#again)
  }

  /** Say an edit. Its failure is told with what to do; its success with an Undo, unless `quiet`. */
  async say(edit: Edit, quiet = false): Promise<boolean> {
    try {
      const { seq } = await api.say(edit, this.summary?.view)
      const back = edit.op === 'undo' || edit.op === 'redo' ? null : () => void this.say({ op: 'undo', seq })
      if (!quiet) this.tell(told(edit), back)
      await this.reload()
      return true
    } catch (fault) {
      this.complain(fault)
      this.version += 1 // a view that showed it at once shows again what is
      return false
    }
  }

  async undo(): Promise<void> {
    if (this.summary?.can_undo && !this.readOnly) await this.say({ op: 'undo' })
  }

  async redo(): Promise<void> {
    if (this.summary?.can_redo && !this.readOnly) await this.say({ op: 'redo' })
  }

  /** Start a long job, and follow it. */
  async start(what: 'spread' | 'audit' | 'map' | 'train'): Promise<boolean> {
    try {
      this.job = await api.start({ what })
      return true
    } catch (fault) {
      this.complain(fault)
      return false
    }
  }

  /** Show a short message; it goes away by itself. */
  tell(text: string, undo: (() => void) | null = null) {
    this.#show({ id: ++this.#ids, text, hint: '', bad: false, undo }, 7000)
  }

  /** Show what went wrong, and what to do. */
  complain(fault: unknown) {
    const refused = fault instanceof api.Refused
    if (!refused && fault instanceof TypeError) this.lost = true // what fetch throws when nobody answers
    const text = refused ? fault.message : this.lost ? 'Phyla does not answer.' : String(fault)
    const hint = refused ? fault.hint : this.lost ? 'Is it still running? All that was said before is kept.' : ''
    this.#show({ id: ++this.#ids, text, hint, bad: true, undo: null }, 20000)
  }

  hush(id: number) {
    this.told = this.told.filter((one) => one.id !== id)
  }

  #show(one: Told, stay: number) {
    this.told = [...this.told.filter((old) => old.bad && old.text !== one.text), one].slice(-3)
    setTimeout(() => this.hush(one.id), stay)
  }

  select(rows: Iterable<number>) {
    this.selection = new Set(rows)
  }

  /** Address of a square thumbnail. */
  thumb(row: number, side: 96 | 192 | 384): string {
    return api.thumb(row, side, this.summary?.view ?? '')
  }

  /** Address of the whole picture. */
  picture(row: number): string {
    return api.picture(row, this.summary?.view ?? '')
  }
}

export const project = new Shared()
