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
  if (event.target.matches('[hx-post] *, [hx-get] *') || event.submitter?.hasAttribute('hx-post')) return;
  if (event.target.method !== 'post') return;
  const buttons = event.target.querySelectorAll('button');
  setTimeout(() => { for (const button of buttons) button.disabled = true; });
}

/** Whoever comes back by the browser's button may send it again. */
window.addEventListener('pageshow', (event) => {
  if (event.persisted) for (const button of document.querySelectorAll('form button')) button.disabled = false;
});

const box = find('#drop');
if (box) dropping(box);
const segments = find('fieldset.segments');
if (segments) theme(segments);
document.addEventListener('submit', once);
document.addEventListener('htmx:after:swap', () => markdown(document));
markdown(document);
