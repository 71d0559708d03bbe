// The key of a server that wants one.

import { $, el } from './dom.js';
import * as store from './store.js';

/** Asks for it, says `sentence` where there was one already, and calls `then` when it was given. */
export function ask(sentence, then) {
  const dialog = $('key');
  const input = el('input', { type: 'password', id: 'key-input', autocomplete: 'current-password', required: true });
  const form = el('form', {},
    el('h2', { id: 'key-title', text: 'This server asks for a key' }),
    el('label', { for: 'key-input', text: 'The key that “llm-installer serve” was started with' }), input,
    el('p', { class: 'small', text: 'It is kept until this tab is closed.' }),
    sentence && el('p', { class: 'problem', role: 'alert', text: sentence }),
    el('div', { class: 'ways' }, el('button', { type: 'submit', class: 'main', text: 'Go on' })));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    store.setKey(input.value);
    dialog.close();
    then();
  });
  dialog.replaceChildren(form);
  if (!dialog.open) dialog.showModal();
  input.focus();
}
