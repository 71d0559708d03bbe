// An answer, perhaps mended, becomes one row of a file that train.sh takes.

import * as api from './api.js';
import { row } from './conversation.js';
import { $, button, copy, el, fit } from './dom.js';

/** Opens the sheet for answer `n` of turn `place`. `denied` is called when the server wants another key. */
export function open(chat, place, n, denied) {
  const one = chat.turns[place].answers[n];
  const dialog = $('row');
  const area = el('textarea', { id: 'row-text', rows: '4', dir: 'auto' });
  area.value = one.text;
  const before = row(chat, place, one.model, one.text).filter((message) => message.role === 'assistant').length > 1;
  const alone = el('input', { type: 'checkbox' });
  const problem = el('p', { class: 'problem', role: 'alert', hidden: true });
  const save = el('button', { type: 'submit', class: 'main', text: 'Save the row' });
  const cancel = el('button', { type: 'button', class: 'quiet', text: 'Cancel', on: { click: () => dialog.close() } });
  const form = el('form', {},
    el('h2', { id: 'row-title', text: 'Save as a training row' }),
    el('p', { class: 'small', text: 'The question' }), el('p', { class: 'quoted', dir: 'auto', text: asked(chat, place) }),
    el('label', { for: 'row-text', text: 'The answer to learn; change it to what it should have been' }), area,
    before && el('label', { class: 'tick' }, alone, el('span', { text: 'Only this question, without what was said before' })),
    problem, el('div', { class: 'ways' }, cancel, save));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    save.disabled = true;
    try {
      done(dialog, await api.saveRow(row(chat, place, one.model, area.value.trim(), alone.checked), one.model));
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      save.disabled = false;
      if (error.status === 401) denied();
    }
  });
  area.addEventListener('input', () => fit(area));
  dialog.replaceChildren(form);
  dialog.showModal();
  fit(area);
}

function asked(chat, place) {
  const turn = chat.turns.slice(0, place).findLast((one) => one.role === 'user');
  return turn?.text || 'An image';
}

function done(dialog, { path, rows, command }) {
  const close = el('button', { type: 'button', class: 'main', text: 'Done', on: { click: () => dialog.close() } });
  dialog.replaceChildren(
    el('h2', { id: 'row-title', text: 'Saved' }),
    el('p', {}, el('code', { text: path }), rows === 1 ? ' has one row now.' : ` has ${rows.toLocaleString('en')} rows now.`),
    el('p', { text: 'To train on them, type:' }),
    el('div', { class: 'command' }, el('code', { text: command }), button('copy', 'Copy the command', () => copy(command))),
    el('div', { class: 'ways' }, close));
  close.focus();
}
