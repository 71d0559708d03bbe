// The conversation as it is seen: questions, answers, columns of answers, and what can be done with each.

import { facts } from './conversation.js';
import { button, copy, el, fit } from './dom.js';
import { Shown } from './markdown.js';

const drawings = new WeakMap();
const LETTERS = 'ABCD';

/** The nodes of all turns. `act` is what page.js can do; `label` names a model. */
export function turns(chat, act, label) {
  return chat.turns.map((turn, place) => (
    turn.role === 'user' ? asked(turn, place, act) : answered(turn, place, act, label)
  ));
}

function asked(turn, place, act) {
  const images = (turn.images ?? []).map((url) => el('img', { src: url, alt: 'The image you added' }));
  const bubble = el('div', { class: 'bubble' },
    images.length && el('div', { class: 'images' }, ...images),
    turn.text && el('p', { dir: 'auto', text: turn.text }));
  const tools = el('div', { class: 'tools' },
    button('pencil', 'Edit this question', () => edit(node, turn, place, act)),
    button('copy', 'Copy this question', () => copy(turn.text)));
  const node = el('article', { class: 'asked', 'aria-label': 'Your question' }, bubble, tools);
  return node;
}

function edit(node, turn, place, act) {
  const before = [...node.childNodes];
  const area = el('textarea', { 'aria-label': 'Edit the question', rows: '1' });
  area.value = turn.text;
  const back = () => {
    node.replaceChildren(...before);
    node.classList.remove('editing');
    node.querySelector('button').focus();
  };
  const send = () => (area.value.trim() || turn.images?.length) && act.edit(place, area.value.trim());
  area.addEventListener('input', () => fit(area));
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      back();
    } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  const ways = el('div', { class: 'ways' },
    el('button', { type: 'button', class: 'quiet', text: 'Cancel', on: { click: back } }),
    el('button', { type: 'button', class: 'main', text: 'Ask again', on: { click: send } }));
  node.classList.add('editing');
  node.replaceChildren(area, ways);
  fit(area);
  area.focus();
}

function answered(turn, place, act, label) {
  if (!turn.compared) return card(turn, place, turn.chosen ?? 0, act, label);
  const cards = turn.answers.map((_, n) => card(turn, place, n, act, label));
  const many = `columns of-${turn.answers.length}`;
  return el('section', { class: many, 'aria-label': 'Answers side by side' }, ...cards);
}

/** What an answer is called: its model, or a letter until there was a vote without names. */
function called(turn, n, label) {
  return turn.blind && turn.chosen === null ? `Answer ${LETTERS[n]}` : label(turn.answers[n].model);
}

function card(turn, place, n, act, label) {
  const one = turn.answers[n];
  const better = turn.compared && turn.chosen === n;
  const name = called(turn, n, label);
  const text = new Shown();
  const note = el('div', { class: 'note' });
  const small = el('p', { class: 'facts small' });
  const tools = el('div', { class: 'tools' });
  const node = el('article', { class: better ? 'answer better' : 'answer', 'aria-label': `Answer of ${name}` },
    el('h2', { class: 'by' }, name, better && el('span', { class: 'small', text: 'goes on from here' })), text.node, note, el('footer', {}, small, tools));
  const draw = () => {
    const busy = act.busy(one);
    text.update(one.text);
    node.classList.toggle('busy', busy);
    node.setAttribute('aria-busy', String(busy));
    note.replaceChildren(...notes(one, busy, () => act.again(place, n)));
    small.textContent = facts(one);
    tools.replaceChildren(...(busy ? [] : ways(turn, place, n, act)));
  };
  drawings.set(one, draw);
  draw();
  return node;
}

function notes(one, busy, again) {
  if (busy) return one.text ? [] : [el('p', { class: 'waiting', text: 'Waiting for the first word' })];
  const say = (sentence, way) => el('p', { class: 'problem' }, el('span', { text: sentence }),
    el('button', { type: 'button', class: 'quiet', text: way, on: { click: again } }));
  if (one.error) return [say(one.error, 'Try again')];
  if (!one.finish) return [say('This answer was interrupted.', 'Ask again')];
  return one.text ? [] : [el('p', { class: 'small', text: 'Nothing was said.' })];
}

function ways(turn, place, n, act) {
  const one = turn.answers[n];
  const found = [];
  if (!turn.compared && turn.answers.length > 1) found.push(...pager(turn, place, n, act));
  if (turn.compared && one.text) {
    found.push(button('star', 'Better', () => act.vote(place, n),
      { words: turn.chosen === n ? 'Voted better' : 'Better', kind: 'quiet vote', 'aria-pressed': String(turn.chosen === n) }));
  }
  if (one.text) found.push(button('copy', 'Copy this answer', () => copy(one.text)));
  if (one.text || !(one.error || !one.finish)) found.push(button('again', 'Another answer', () => act.again(place, n)));
  if (one.text) {
    found.push(button('save', 'Save as a training row', () => act.saveRow(place, n),
      turn.compared ? {} : { words: 'Save as a training row', kind: 'quiet' }));
  }
  return found;
}

function pager(turn, place, n, act) {
  const turnTo = (to) => button(to < n ? 'left' : 'right', to < n ? 'The try before' : 'The next try',
    () => act.show(place, to), { disabled: to < 0 || to >= turn.answers.length });
  return [turnTo(n - 1), el('span', { class: 'small', text: `${n + 1} of ${turn.answers.length}` }), turnTo(n + 1)];
}

/** Draws an answer again that has grown or ended, where it is on the page. */
export const refresh = (one) => drawings.get(one)?.();
