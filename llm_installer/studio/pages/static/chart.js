// The course of a run: points from the server, new ones as they come, one chart for each kind of number.

const VALIDATION = { label: 'Validation loss', colour: '--accent', width: 2.5, points: true };
const TRAINING = { label: 'Training loss', colour: '--second', width: 1.5 };
const place = document.getElementById('loss');
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
/** A colour that may be light-dark(...), as the canvas needs it. */
function paint(name) {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found || colour(name);
}

const short = (value) => (value == null ? '–' : Number(value.toPrecision(4)).toString());

class Chart {
  constructor(box, series) {
    this.box = box;
    this.series = series;
    this.draw([[0], ...series.map(() => [null])]);
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(box);
    const again = () => this.draw(this.plot.data);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
  }

  size() {
    return { width: Math.max(240, this.box.clientWidth), height: this.box.classList.contains('low') ? 170 : 290 };
  }

  draw(data) {
    this.plot?.destroy();
    const line = paint('--line');
    const axis = { stroke: paint('--muted'), grid: { stroke: line, width: 1 }, ticks: { show: false }, font: '12px system-ui' };
    this.plot = new uPlot({
      ...this.size(),
      scales: { x: { time: false } },
      axes: [{ ...axis }, { ...axis, size: 56 }],
      legend: { live: true },
      series: [{ label: 'Step' }, ...this.series.map((one) => ({
        label: one.label, stroke: paint(one.colour), width: one.width ?? 2, spanGaps: true, dash: one.dash,
        points: { show: one.points ?? false, size: 6 }, value: (_, value) => short(value),
      }))],
    }, data, this.box);
  }

  set(data) {
    if (data[0].length) this.plot.setData(data);
  }
}

/** Points by step; one that comes again, after a resumed run went back, takes the place of the old one. */
class Course {
  constructor() {
    this.steps = new Map();
  }

  add(points) {
    for (const one of points) this.steps.set(one.step, { ...this.steps.get(one.step), ...one });
  }

  columns(...names) {
    const rows = [...this.steps.values()].filter((row) => names.some((name) => row[name] != null));
    rows.sort((one, other) => one.step - other.step);
    return [rows.map((row) => row.step), ...names.map((name) => rows.map((row) => row[name] ?? null))];
  }
}

function numbers(course) {
  const body = document.querySelector('#numbers tbody');
  const [steps, training, validation] = course.columns('train_loss', 'validation_loss');
  body.replaceChildren(...steps.map((step, at) => {
    const row = document.createElement('tr');
    for (const value of [step, short(training[at]), short(validation[at])]) row.insertCell().textContent = value;
    return row;
  }));
}

async function one() {
  const course = new Course();
  const loss = new Chart(place, [TRAINING, VALIDATION]);
  const more = [
    ['learning_rate', new Chart(document.getElementById('rate'), [{ label: 'Learning rate', colour: '--accent' }])],
    ['tokens_per_second', new Chart(document.getElementById('speed'), [{ label: 'Tokens per second', colour: '--accent' }])],
  ];
  let waits = false;
  const show = () => {
    waits = false;
    loss.set(course.columns('loss', 'validation_loss'));
    for (const [name, chart] of more) chart.set(course.columns(name));
    numbers(course);
    place.dataset.count = course.steps.size;
    if (course.steps.size) document.getElementById('course').hidden = false; // before the first step there is nothing to see
  };
  const later = () => {
    if (!waits) (still ? setTimeout : requestAnimationFrame)(show, 500);
    waits = true;
  };
  const load = async () => {
    course.add((await (await fetch(place.dataset.points, { cache: 'no-store' })).json()).points);
    later();
  };
  const live = document.getElementById('live');
  live?.addEventListener('points', (event) => {
    course.add(JSON.parse(event.detail.data));
    later();
  });
  live?.addEventListener('snapshot', load);
  await load();
}

async function several() {
  const paths = place.dataset.compare.split(' ');
  const names = place.dataset.names.split('|');
  const colours = ['--accent', '--second', '--third', '--fourth'];
  const dashes = [undefined, [7, 4], [2, 3]];
  const found = await Promise.all(paths.map(async (path) => (await fetch(path)).json()));
  const steps = [...new Set(found.flatMap(({ points }) => points.map((row) => row.step)))].sort((a, b) => a - b);
  const columns = found.map(({ points }) => {
    const known = new Map(points.map((row) => [row.step, row.validation_loss ?? row.train_loss]));
    return steps.map((step) => known.get(step) ?? null);
  });
  new Chart(place, names.map((label, at) => ({
    label, colour: colours[at % colours.length], points: true, dash: dashes[Math.floor(at / colours.length) % dashes.length],
  }))).set([steps, ...columns]);
}

if (place.dataset.compare) several(); else one();
