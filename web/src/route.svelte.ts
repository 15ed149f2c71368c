/** Where one is: `#/group/class%3Acat` is the view `group` of `class:cat`. In the location hash, so that back works. */

export const VIEWS = ['groups', 'group', 'map', 'tree', 'ask', 'check', 'find', 'take', 'history'] as const
export type View = (typeof VIEWS)[number]

class Route {
  view = $state<View>('groups')
  /** What follows the view: a selector, a check. */
  of = $state('')

  constructor() {
    this.#read()
    addEventListener('hashchange', () => this.#read())
  }

  #read() {
    const [view = '', ...rest] = location.hash.replace(/^#\/?/, '').split('/')
    this.view = VIEWS.find((known) => known === view) ?? 'groups'
    try {
      this.of = decodeURIComponent(rest.join('/'))
    } catch {
      this.of = ''
    }
  }
}

export const route = new Route()
export const to = (view: View, of = '') => `#/${view}${of && `/${encodeURIComponent(of)}`}`
export const go = (view: View, of = '') => void (location.hash = to(view, of))
