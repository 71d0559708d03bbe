// The page: what is shown, what the buttons do, and when the server is asked.

import * as api from './api.js';
import { answer, begin, described, question, title, votes } from './conversation.js';
import { $, announce, drawIcons, el, fit, toast } from './dom.js';
import { refresh, turns } from './messages.js';
import * as history from './history.js';
import * as key from './key.js';
import * as choice from './models.js';
import * as pictures from './pictures.js';
import * as rows from './rows.js';
import * as settings from './settings.js';
import * as store from './store.js';
import * as talk from './talk.js';
import { welcome } from './welcome.js';

const NAME = document.querySelector('meta[name=model]').content;
const AGAIN = 3000; // milliseconds until a server that is away is looked for once more

let chat = begin();
let models = [];
let reached; // not known before the first answer
let retry = 0;
let full = false;

$('studio').hidden = !location.pathname.startsWith('/chat/'); // the studio has this page under that address

const label = (id) => models.find((one) => one.id === id)?.label ?? id;
const chosen = () => choice.chosen(models, store.settings());

// What is kept

function keep(which = chat) {
  which.title = title(which);
  if (!which.turns.length && !which.system) return;
  const kept = store.keep(which);
  if (!kept && !full) toast('The browser has no room left for conversations. Delete some, or this one ends with the page.');
  full = !kept;
  sidebar();
}

function open(found) {
  chat = found;
  store.setCurrent(chat.id);
  history.show(false);
  draw();
  toEnd();
}

const sidebar = () => history.list(chat.id, (one) => open(talk.live(one.id) ?? store.conversation(one.id) ?? one), remove);

function remove(one) {
  const gone = talk.live(one.id) ?? one;
  talk.stop(gone);
  store.forget(one.id);
  if (one.id === chat.id) open(begin());
  else sidebar();
  toast('The conversation was deleted.', () => { keep(gone); open(gone); });
}

// What is seen

/** What keeps its place when it is drawn again: the page itself and answers side by side. */
const scrolled = () => [$('scroll'), ...document.querySelectorAll('.columns')];

function draw() {
  const show = chat.turns.length ? turns(chat, act, label) : [welcome(models)];
  const system = chat.system.trim() && el('button', {
    type: 'button', class: 'system', title: 'Change the system prompt', on: { click: openSettings },
  }, el('span', { text: 'System prompt' }), ' ', chat.system.trim());
  const places = scrolled().map((node) => [node.scrollLeft, node.scrollTop]);
  $('messages').replaceChildren(...(system ? [system] : []), ...show);
  scrolled().forEach((node, n) => { [node.scrollLeft, node.scrollTop] = places[n] ?? [0, 0]; });
  $('messages').classList.toggle('wide-messages', chat.turns.some((turn) => turn.compared));
  sidebar();
  buttons();
}

function buttons() {
  const { comparing } = store.settings();
  const busy = talk.any(chat);
  $('chosen').textContent = reached ? choice.named(chosen(), label) : reached === false ? 'no server' : 'asking the server';
  $('compare').setAttribute('aria-pressed', String(comparing));
  $('stop').hidden = !busy;
  $('send').hidden = busy;
  const sees = chosen().some((id) => models.find((one) => one.id === id)?.sees);
  $('attach').hidden = !sees;
  $('send').disabled = !($('question').value.trim() || pictures.taken().length) || !models.length;
}

const near = () => $('scroll').scrollHeight - $('scroll').scrollTop - $('scroll').clientHeight < 90;
const toEnd = () => { $('scroll').scrollTop = $('scroll').scrollHeight; };

/** Draws, and stays at the end where the reader is there. */
function following(work) {
  const follow = near();
  work();
  if (follow) toEnd();
}

// What is asked

const tell = {
  grown: (which) => (work) => (which === chat ? following(work) : work()),
  denied: () => askForKey('That key was not accepted.'),
  ended: (which, one) => {
    keep(which);
    if (which !== chat) return;
    following(() => refresh(one));
    buttons();
    if (!talk.any(chat)) announce(one.error || 'The answer is there.');
  },
};

/** Asks for some answers of a turn, all at once. */
function ask(place, answers) {
  const all = answers.map((one) => talk.run(chat, place, one, tell));
  chat.updated = Date.now();
  keep();
  draw();
  toEnd();
  announce(answers.length > 1 ? 'Several answers are being written.' : 'An answer is being written.');
  return Promise.all(all);
}

function askAll() {
  const { comparing, blind, max_tokens: limit } = store.settings();
  const ids = chosen();
  const compared = comparing && ids.length > 1;
  const order = compared && blind ? ids.map((id) => [Math.random(), id]).sort(([a], [b]) => a - b).map(([, id]) => id) : ids;
  const answers = order.map((id) => answer(id, limit));
  chat.turns.push({ role: 'assistant', answers, chosen: compared ? null : 0, compared, blind: compared && blind });
  return ask(chat.turns.length - 1, answers);
}

/** Drops the turns from `place` on; a word undoes it. */
function cut(place) {
  const from = chat;
  const before = [...chat.turns];
  const later = chat.turns.length - place;
  talk.stop(chat);
  chat.turns.length = place;
  if (later > 2) {
    toast('What came after it was removed.', () => {
      talk.stop(from);
      from.turns = before;
      keep(from);
      if (from === chat) draw();
    });
  }
}

const act = {
  busy: talk.busy,
  edit: (place, text) => {
    const asked = question(text, chat.turns[place].images);
    cut(place);
    chat.turns.push(asked);
    askAll();
  },
  again: (place, n) => {
    const turn = chat.turns[place];
    if (chat.turns.length > place + 1) cut(place + 1);
    const made = answer(turn.compared ? turn.answers[n].model : chosen()[0] ?? turn.answers[n].model);
    const failed = !turn.answers[n].text;
    if (turn.compared || failed) turn.answers[n] = made;
    else turn.answers.push(made);
    if (turn.compared) turn.chosen = turn.chosen === n ? null : turn.chosen;
    else turn.chosen = turn.answers.indexOf(made);
    ask(place, [made]);
  },
  show: (place, n) => {
    chat.turns[place].chosen = n;
    keep();
    draw();
  },
  vote: (place, n) => {
    const turn = chat.turns[place];
    turn.chosen = turn.chosen === n ? null : n;
    keep();
    draw();
    const better = [...document.querySelectorAll('.vote')].find((one) => one.getAttribute('aria-pressed') === 'true');
    better?.focus({ preventScroll: true });
    announce(turn.chosen === null ? 'The vote was taken back.' : `You voted for ${label(turn.answers[n].model)}.`);
  },
  saveRow: (place, n) => rows.open(chat, place, n, tell.denied),
};

function send() {
  const text = $('question').value.trim();
  const images = pictures.taken();
  if ((!text && !images.length) || talk.any(chat) || !models.length) return;
  chat.turns.push(question(text, [...images]));
  $('question').value = '';
  fit($('question'));
  pictures.clear();
  askAll();
}

// What is served

async function load() {
  clearTimeout(retry);
  if ($('key').open) return;
  try {
    models = (await api.models()).map((entry) => described(entry, NAME));
    const back = !reached;
    reached = true;
    $('banner').hidden = true;
    if (back || !chat.turns.length) draw();
  } catch (error) {
    reached = false;
    if (error.status === 401) askForKey(store.key() ? 'That key was not accepted.' : '');
    else missing(error.message);
  }
  buttons();
  drawModels();
}

function missing(sentence) {
  if ($('banner').hidden || $('banner').firstChild?.textContent !== sentence) {
    $('banner').replaceChildren(el('span', { text: sentence }),
      el('button', { type: 'button', class: 'quiet', text: 'Try again', on: { click: load } }));
    $('banner').hidden = false;
  }
  retry = setTimeout(load, AGAIN);
}

function drawModels() {
  choice.draw(models, votes(store.conversations()), (changes) => {
    const settingsNow = { ...store.settings(), ...changes };
    if (changes.comparing && chosen().length < 2) settingsNow.models = choice.pair(models, chosen());
    const { comparing, blind, models: ids } = settingsNow;
    store.set({ comparing, blind, models: ids });
    const focused = document.activeElement;
    drawModels();
    buttons();
    [...$('models').querySelectorAll('input')].find((one) => one.type === focused?.type && one.name === focused.name
      && (one.value === focused.value && one.checked === focused.checked))?.focus();
  });
}

const askForKey = (sentence) => key.ask(sentence, load);

function openSettings() {
  settings.open(chat.system, (text) => { chat.system = text; keep(); });
}

// What the keys and buttons do

function keys(event) {
  const writing = /^(TEXTAREA|INPUT|SELECT)$/.test(event.target.tagName);
  const covered = document.querySelector('dialog[open], :popover-open');
  if (event.key === '/' && !writing && !covered && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $('question').focus();
  } else if (event.key === 'Escape' && !covered) {
    if (document.body.classList.contains('history-open')) {
      history.show(false);
      $('open-history').focus();
    } else talk.stop(chat);
  }
}

function wire() {
  const on = (id, name, run) => $(id).addEventListener(name, run);
  on('composer', 'submit', (event) => { event.preventDefault(); send(); });
  on('question', 'input', () => { fit($('question')); buttons(); });
  on('question', 'keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  on('question', 'paste', (event) => {
    const files = [...event.clipboardData.files].filter((file) => file.type.startsWith('image/'));
    if (!files.length || $('attach').hidden) return;
    event.preventDefault();
    pictures.add(files);
  });
  on('stop', 'click', () => talk.stop(chat));
  on('attach', 'click', () => $('file').click());
  on('file', 'change', async () => { await pictures.add($('file').files); $('file').value = ''; });
  on('pictures', 'change', buttons);
  on('new-chat', 'click', () => { open(begin()); $('question').focus(); });
  on('open-history', 'click', () => { history.show(true); $('close-history').focus(); });
  on('close-history', 'click', () => { history.show(false); $('open-history').focus(); });
  on('shade', 'click', () => history.show(false));
  on('open-settings', 'click', openSettings);
  on('settings', 'close', draw);
  on('compare', 'click', () => {
    const comparing = !store.settings().comparing;
    store.set({ comparing, ...(comparing && chosen().length < 2 ? { models: choice.pair(models, chosen()) } : {}) });
    drawModels();
    buttons();
    if (comparing) $('models').showPopover();
  });
  on('models', 'toggle', (event) => { if (event.newState === 'open') load(); });
  on('models', 'beforetoggle', (event) => {
    if (event.newState !== 'open') return;
    drawModels();
    choice.place();
  });
  document.addEventListener('keydown', keys);
  addEventListener('focus', load);
  addEventListener('pagehide', talk.leave);
  addEventListener('pageshow', talk.stay);
  addEventListener('resize', choice.place);
  addEventListener('storage', (event) => {
    if (!store.isConversation(event.key)) return;
    const theirs = store.conversation(chat.id);
    if (theirs && !talk.any(chat) && event.key?.endsWith(chat.id)) {
      chat = theirs;
      draw();
    } else sidebar();
  });
}

drawIcons(document);
settings.theme(store.settings().theme);
wire();
open((store.current() && store.conversation(store.current())) || begin());
$('question').focus();
load();
