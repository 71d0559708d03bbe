// The list of conversations, and the drawer that it is on a narrow window.

import { $, button, el } from './dom.js';
import * as store from './store.js';

const named = (chat) => chat.title || 'New conversation';

export function list(current, open, remove) {
  $('conversations').replaceChildren(...store.conversations().map((one) => el('li', {},
    el('button', {
      type: 'button', class: 'conversation', 'aria-current': one.id === current && 'true', text: named(one),
      on: { click: () => open(one) },
    }),
    button('trash', `Delete “${named(one)}”`, () => remove(one)))));
}

export function show(wanted) {
  document.body.classList.toggle('history-open', wanted);
  $('shade').hidden = !wanted;
  $('open-history').setAttribute('aria-expanded', String(wanted));
}
