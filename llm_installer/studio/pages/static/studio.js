// Small things that plain HTML lacks. Everything works without them, only less comfortably.

const find = (selector, within = document) => within.querySelector(selector);

/** A file can be dropped on the whole box; its name is shown, and the form is sent. */
function dropping(box) {
  const input = find('input[type=file]', box);
  const hint = find('#file-hint');
  const show = () => {
    if (!input.files.length) return;
    hint.textContent = `${input.files[0].name} is chosen.`;
    box.classList.add('full');
  };
  const over = (event) => {
    event.preventDefault();
    box.classList.toggle('over', event.type === 'dragover');
  };
  for (const kind of ['dragover', 'dragleave', 'dragend']) box.addEventListener(kind, over);
  box.addEventListener('drop', (event) => {
    over(event);
    if (!event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    show();
    find('#go').focus();
  });
  input.addEventListener('change', show);
  const warm = () => fetch('/new/warm', { method: 'POST' }).catch(() => {});
  if (find('#give')) for (const kind of ['change', 'focusin', 'drop']) find('#give').addEventListener(kind, warm, { once: true });
}

/** The choice of colours is kept in this browser. */
function theme(segments) {
  const now = document.documentElement.dataset.theme ?? '';
  for (const input of segments.querySelectorAll('input[name=theme]')) {
    input.checked = input.value === now;
    input.addEventListener('change', () => {
      if (input.value) document.documentElement.dataset.theme = input.value;
      else delete document.documentElement.dataset.theme;
      if (input.value) localStorage.setItem('llm-installer:theme', input.value);
      else localStorage.removeItem('llm-installer:theme');
    });
  }
}

/** Markdown becomes elements, never HTML; until then, and without JavaScript, it is text. */
async function markdown(within) {
  const texts = [...within.querySelectorAll('[data-markdown]:not(.drawn)')];
  for (const one of texts) one.classList.add('drawn'); // at once, for this may be asked for again meanwhile
  if (!texts.length) return;
  const { Shown } = await import('/static/chat/markdown.js');
  for (const one of texts) {
    const text = find('pre', one).textContent;
    const shown = new Shown();
    shown.update(text);
    one.replaceChildren(shown.node);
  }
}

/** Where a form was sent, it cannot be sent twice. */
function once(event) {
  if (event.target.matches('[hx-post], [hx-get]') || event.submitter?.hasAttribute('hx-post')) return;
  if (event.target.getAttribute('method') !== 'post') return; // a field may be called method
  const buttons = event.target.querySelectorAll('button');
  setTimeout(() => { for (const button of buttons) button.disabled = true; });
}

/** Whoever comes back by the browser's button may send it again. */
window.addEventListener('pageshow', (event) => {
  if (event.persisted) for (const button of document.querySelectorAll('form button')) button.disabled = false;
});

/** Says when the studio is away, and takes the page up again when it is back; what was typed into a form stays. */
const EVERY = 2000; // milliseconds
let away = false;
let leaving = false;

async function answers() {
  try {
    return (await fetch('/health', { cache: 'no-store' })).ok;
  } catch {
    return false;
  }
}

async function missed() {
  if (away || leaving || await answers() || away || leaving) return;
  away = true;
  const told = document.createElement('p');
  told.id = 'away';
  told.className = 'banner so-so';
  told.setAttribute('role', 'status');
  told.textContent = 'The studio does not answer; it may be starting again. A training that runs is not lost. This page comes back by itself.';
  document.querySelector('main').prepend(told);
  const look = async () => {
    if (!await answers()) return setTimeout(look, EVERY);
    if (find('#live, #waiting, main .waiting, [hx-trigger*="every"]')) return location.reload();
    told.remove();
    away = false;
  };
  setTimeout(look, EVERY);
}

for (const kind of ['htmx:error', 'htmx:sse:error']) document.addEventListener(kind, missed);
window.addEventListener('pagehide', () => { leaving = true; });
window.addEventListener('pageshow', () => { leaving = false; });

/** The chat page keeps in this browser who answers: the base and the run that one comes from. */
document.addEventListener('click', (event) => {
  const models = event.target.closest?.('[data-models]')?.dataset.models;
  if (!models) return;
  try {
    const key = 'llm-installer:settings';
    const before = JSON.parse(localStorage.getItem(key)) ?? {};
    localStorage.setItem(key, JSON.stringify({ ...before, comparing: true, models: models.split('|') }));
  } catch { /* then they are chosen on that page */ }
});

/** A hidden page holds no stream, as a browser has few connections to one server. One that is hidden before its stream
    begins was told so before anybody listened; the stream waits until the page is shown, as others do. */
document.addEventListener('htmx:sse:after:connection', ({ detail: { connection } }) => {
  if (document.hidden) setTimeout(() => { if (document.hidden) connection.visibilityHandler?.(); });
});

/** What the page waited for is there: it goes on, once, as the button would. */
let went = false;
function goOn() {
  const form = went ? null : find('form[data-go-on]');
  if (!form) return;
  went = true;
  form.requestSubmit();
}

const box = find('#drop');
if (box) dropping(box);
const segments = find('fieldset.segments');
if (segments) theme(segments);
document.addEventListener('submit', once);
for (const act of [() => markdown(document), goOn]) {
  document.addEventListener('htmx:after:swap', act);
  act();
}
