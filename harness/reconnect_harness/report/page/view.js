// The view: the visible span of time and session, and the places of moments. Everything is drawn again when it changes.

const data = JSON.parse(document.getElementById("data").textContent);
const DIRECTIONS = ["c2u", "u2c"].filter((direction) => data.depth[direction]);
const LEFT = 92;
const RIGHT = 14;

// Columns of differences become plain columns; times become seconds.
for (const session of data.sessions) {
  for (const direction of DIRECTIONS) {
    const column = session[direction];
    if (!column) continue;
    let sent = 0;
    let number = 0;
    column.number = column.number.map((step) => (number += step));
    column.arrived = new Float64Array(column.travel.length);
    column.sent = Float64Array.from(column.sent, (step) => (sent += step) * data.unit);
    column.travel.forEach((travel, i) => {
      column.arrived[i] = travel < 0 ? NaN : column.sent[i] + travel * data.unit;
    });
    column.flaw = new Map(column.flaws.map(([i, letters, wasSent]) => [i, { letters, wasSent: Boolean(wasSent) }]));
  }
}

const view = { from: data.start, to: data.end, session: "", directions: new Set(DIRECTIONS) };
const painters = [];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function shownSessions() {
  return view.session ? data.sessions.filter((session) => session.name === view.session) : data.sessions;
}

function look(from, to) {
  const least = 0.002;
  const whole = data.end - data.start;
  const length = Math.min(Math.max(to - from, least), whole);
  const start = Math.min(Math.max((from + to - length) / 2, data.start), data.end - length);
  view.from = start;
  view.to = start + length;
  repaint();
}

let waiting = false;
function repaint() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

function paint() {
  for (const painter of painters) painter();
  const digits = view.to - view.from < 0.2 ? 4 : 2;
  document.getElementById("shown").textContent = `${view.from.toFixed(digits)} to ${view.to.toFixed(digits)} s`;
}

// A canvas ready to be drawn on, in CSS pixels; for print with the resolution of the finest screen.
function surface(id) {
  const canvas = document.getElementById(id);
  const height = Number(canvas.dataset.height || canvas.getAttribute("height"));
  canvas.dataset.height = height;
  canvas.style.height = `${height}px`;
  const width = canvas.clientWidth;
  const fine = document.documentElement.classList.contains("printing") ? 3 : window.devicePixelRatio || 1;
  canvas.width = Math.round(width * fine);
  canvas.height = Math.round(height * fine);
  const pen = canvas.getContext("2d");
  pen.scale(fine, fine);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  pen.lineWidth = 1;
  return { pen, width, height };
}

function place(width) {
  const scale = (width - LEFT - RIGHT) / (view.to - view.from);
  return (t) => LEFT + (t - view.from) * scale;
}

function moment(canvas, clientX) {
  const box = canvas.getBoundingClientRect();
  return view.from + ((clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * (view.to - view.from);
}

function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((factor) => power * factor >= least * 0.999999);
}

function timeAxis(pen, x, width, y, top, bottom) {
  const step = roundStep(((view.to - view.from) * 90) / (width - LEFT - RIGHT));
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  pen.textAlign = "center";
  for (let i = Math.ceil(view.from / step); i * step <= view.to; i += 1) {
    const at = x(i * step);
    pen.fillStyle = colour("grid");
    pen.fillRect(at, top, 1, bottom - top);
    pen.fillStyle = colour("quiet");
    pen.fillText(`${(i * step).toFixed(digits)} s`, at, y);
  }
}

// A band of a fault: hatched, to be visible without colour, and at least 2 px wide.
function band(pen, x, width, fault, top, bottom) {
  if (fault.from === null) return null;
  const left = Math.max(LEFT, x(fault.from));
  const right = Math.min(width - RIGHT, Math.max(x(fault.to === null ? data.end : fault.to), x(fault.from) + 2));
  if (right <= LEFT || left >= width - RIGHT || right <= left) return null;
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.clip();
  pen.fillStyle = colour("fault");
  pen.globalAlpha = 0.16;
  pen.fillRect(left, top, right - left, bottom - top);
  pen.globalAlpha = 0.45;
  pen.strokeStyle = colour("fault");
  pen.beginPath();
  for (let at = left - (bottom - top) - (left % 8); at < right; at += 8) {
    pen.moveTo(at, bottom);
    pen.lineTo(at + (bottom - top), top);
  }
  pen.stroke();
  pen.restore();
  return [left, right];
}

function clipped(pen, width, height, draw) {
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, width - LEFT - RIGHT, height);
  pen.clip();
  draw();
  pen.restore();
}

function seconds(t) {
  return t < 1 ? `${Number((t * 1000).toPrecision(3))} ms` : `${t.toFixed(2)} s`;
}
