// Images that go with a question: made smaller here, so that they fit into a message and into what the browser keeps.

import { $, button, el, toast } from './dom.js';

const SIDE = 1024; // pixels; no model that runs here looks at more
const MOST = 4;
let waiting = [];

export const taken = () => waiting;

export function clear() {
  waiting = [];
  draw();
}

async function smaller(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
  const canvas = el('canvas', {
    width: Math.max(1, Math.round(picture.width * scale)), height: Math.max(1, Math.round(picture.height * scale)),
  });
  canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return file.type === 'image/png' ? canvas.toDataURL('image/png') : canvas.toDataURL('image/jpeg', 0.9);
}

export async function add(files) {
  for (const file of files) {
    if (waiting.length >= MOST) {
      toast(`A question can have ${MOST} images.`);
      break;
    }
    try {
      waiting.push(await smaller(file));
    } catch {
      toast(`${file.name} is not an image that this browser can read.`);
    }
  }
  draw();
}

function draw() {
  const box = $('pictures');
  box.hidden = !waiting.length;
  box.replaceChildren(...waiting.map((url, n) => el('span', { class: 'picture' },
    el('img', { src: url, alt: `Image ${n + 1} of your question` }),
    button('close', `Remove image ${n + 1}`, () => { waiting.splice(n, 1); draw(); }))));
  box.dispatchEvent(new Event('change', { bubbles: true }));
}
