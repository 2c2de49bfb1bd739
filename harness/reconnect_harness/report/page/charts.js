// The charts over time below the diagram, on the same scale, and the controls of the view.

const ROWS = [["messages in flight", 170, paintDepth], ["latency", 190, paintLatency]];
for (const direction of DIRECTIONS) ROWS.push([`${direction} messages/s`, 150, paintRate(direction)]);
document.getElementById("charts").setAttribute("height", ROWS.reduce((sum, [, height]) => sum + height, 24));

function paintCharts() {
  const { pen, width, height } = surface("charts");
  const x = place(width);
  let top = 0;
  for (const [name, tall, draw] of ROWS) {
    const area = { pen, x, width, top: top + 26, bottom: top + tall - 8 };
    timeAxis(pen, x, width, -100, area.top, area.bottom);
    for (const fault of data.faults) band(pen, x, width, fault, area.top, area.bottom);
    pen.textAlign = "left";
    pen.fillStyle = colour("ink");
    pen.fillText(name, LEFT, top + 18);
    draw(area);
    pen.strokeStyle = colour("rule");
    pen.strokeRect(LEFT, area.top, width - LEFT - RIGHT, area.bottom - area.top);
    top += tall;
  }
  timeAxis(pen, x, width, height - 8, 0, 0);
}

// The largest value in the visible span, so that a chart fills its height.
function largest(series, grid) {
  const first = Math.max(0, Math.floor((view.from - grid.start) / grid.step));
  const last = Math.ceil((view.to - grid.start) / grid.step);
  return series.reduce((most, values) => values.slice(first, last + 1).reduce((a, b) => Math.max(a, b || 0), most), 0);
}

function scaleOf({ pen, width, top, bottom }, most) {
  const step = Math.max(roundStep(Math.max(most, 1) / 3), 1);
  const roof = Math.max(most * 1.05, step);
  const y = (value) => bottom - ((bottom - top) * value) / roof;
  pen.textAlign = "right";
  for (let value = 0; value <= roof; value += step) {
    pen.fillStyle = colour("grid");
    pen.fillRect(LEFT, y(value), width - LEFT - RIGHT, 1);
    pen.fillStyle = colour("quiet");
    pen.fillText(value.toLocaleString("en"), LEFT - 8, y(value) + 4);
  }
  return y;
}

// A line through the values of the steps, with a gap where there is none.
function trace(area, grid, values, y, dash = []) {
  const { pen, x } = area;
  pen.setLineDash(dash);
  pen.beginPath();
  let drawing = false;
  values.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const at = x(grid.start + (i + 0.5) * grid.step);
    if (drawing) pen.lineTo(at, y(value));
    else {
      // A single point is visible too.
      pen.moveTo(at - 1, y(value));
      pen.lineTo(at, y(value));
    }
    drawing = true;
  });
  pen.stroke();
  pen.setLineDash([]);
}

function paintDepth(area) {
  const y = scaleOf(area, largest(DIRECTIONS.map((direction) => data.depth[direction]), data.fine));
  inside(area, () => {
    for (const direction of DIRECTIONS) {
      area.pen.strokeStyle = colour(direction);
      area.pen.lineWidth = 1.5;
      trace(area, data.fine, data.depth[direction], y, direction === "u2c" ? [6, 2] : []);
    }
  });
  legend(area, [["c2u", []], ["u2c", [6, 2]]].filter(([direction]) => DIRECTIONS.includes(direction)));
}

function paintLatency(area) {
  const { pen, x, width, top, bottom } = area;
  const all = DIRECTIONS.flatMap((direction) => data.latency[direction]).filter(Boolean);
  const least = Math.max(1e-5, Math.min(...all.map((step) => step[0]), 1e-3));
  const most = Math.max(...all.map((step) => step[2]), least * 10) * 1.2;
  const y = (t) => bottom - ((bottom - top) * Math.log(Math.max(t, least) / least)) / Math.log(most / least);
  pen.textAlign = "right";
  for (let power = Math.ceil(Math.log10(least) - 1e-9); 10 ** power <= most; power += 1) {
    pen.fillStyle = colour("grid");
    pen.fillRect(LEFT, y(10 ** power), width - LEFT - RIGHT, 1);
    pen.fillStyle = colour("quiet");
    pen.fillText(seconds(10 ** power), LEFT - 8, y(10 ** power) + 4);
  }
  inside(area, () => {
    for (const direction of DIRECTIONS) {
      const steps = data.latency[direction];
      pen.fillStyle = colour(direction);
      pen.globalAlpha = 0.25;
      steps.forEach((step, i) => {
        if (!step) return;
        const left = x(data.coarse.start + i * data.coarse.step);
        const right = x(data.coarse.start + (i + 1) * data.coarse.step);
        pen.fillRect(left, y(step[2]), right - left, Math.max(1, y(step[0]) - y(step[2])));
      });
      pen.globalAlpha = 1;
      pen.strokeStyle = colour(direction);
      pen.lineWidth = 1.5;
      const medians = steps.map((step) => step && step[0]);
      trace(area, data.coarse, medians, y, direction === "u2c" ? [6, 2] : []);
    }
  });
  legend(area, [["c2u", []], ["u2c", [6, 2]]].filter(([direction]) => DIRECTIONS.includes(direction)));
}

function paintRate(direction) {
  return (area) => {
    const y = scaleOf(area, largest([data.sent[direction], data.received[direction]], data.coarse));
    inside(area, () => {
      area.pen.lineWidth = 1.5;
      area.pen.strokeStyle = colour(direction);
      trace(area, data.coarse, data.received[direction], y);
      area.pen.strokeStyle = colour("ink");
      trace(area, data.coarse, data.sent[direction], y, [3, 3]);
    });
  };
}

function inside({ pen, width, top, bottom }, draw) {
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, top, width - LEFT - RIGHT, bottom - top);
  pen.clip();
  draw();
  pen.restore();
}

function legend({ pen, width, top }, entries) {
  let right = width - RIGHT;
  pen.textAlign = "right";
  for (const [name, dash] of entries.reverse()) {
    pen.fillStyle = colour("ink");
    pen.fillText(name, right, top - 8);
    const start = right - pen.measureText(name).width - 32;
    pen.strokeStyle = colour(name);
    pen.lineWidth = 2;
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(start, top - 12);
    pen.lineTo(start + 26, top - 12);
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = 1;
    right = start - 16;
  }
}

painters.push(paintCharts);

function listen() {
  const canvas = document.getElementById("diagram");
  const tip = document.getElementById("tip");
  const sessions = document.getElementById("session");
  sessions.append(new Option(`all ${data.sessions.length}`, ""));
  for (const session of data.sessions) sessions.append(new Option(session.name, session.name));
  sessions.addEventListener("change", () => {
    view.session = sessions.value;
    repaint();
  });
  for (const direction of ["c2u", "u2c"]) {
    const label = document.getElementById(`show-${direction}`);
    label.hidden = !DIRECTIONS.includes(direction);
    label.querySelector("input").addEventListener("change", (event) => {
      if (event.target.checked) view.directions.add(direction);
      else view.directions.delete(direction);
      repaint();
    });
  }
  const zoom = (factor, at = (view.from + view.to) / 2) =>
    look(at - (at - view.from) * factor, at + (view.to - at) * factor);
  const move = (share) => {
    const step = (view.to - view.from) * share;
    look(view.from + step, view.to + step);
  };
  const whole = () => look(data.start, data.end);
  for (const button of document.querySelectorAll("button[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  for (const button of document.querySelectorAll("button[data-move]")) {
    button.addEventListener("click", () => move(Number(button.dataset.move)));
  }
  document.getElementById("whole").addEventListener("click", whole);
  for (const button of document.querySelectorAll("button.show")) {
    button.addEventListener("click", () => {
      const { from, to, session } = button.dataset;
      view.session = sessions.value = data.sessions.some(({ name }) => name === session) ? session : "";
      look(Number(from), Number(to));
      document.getElementById("h-diagram").scrollIntoView();
      canvas.focus({ preventScroll: true });
    });
  }
  const keys = {
    ArrowLeft: () => move(-0.25), ArrowRight: () => move(0.25), "+": () => zoom(0.5), "=": () => zoom(0.5),
    "-": () => zoom(2), 0: whole, Escape: whole,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, moment(canvas, event.clientX));
  }, { passive: false });

  let grip = null;
  canvas.addEventListener("pointerdown", (event) => {
    grip = event.clientX;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (grip === null) return point(event);
    paintDiagram();
    const pen = canvas.getContext("2d");
    const left = canvas.getBoundingClientRect().left;
    pen.globalAlpha = 0.2;
    pen.fillStyle = colour("ink");
    pen.fillRect(Math.min(grip, event.clientX) - left, 0, Math.abs(event.clientX - grip), canvas.clientHeight);
    pen.globalAlpha = 1;
  });
  canvas.addEventListener("pointerup", (event) => {
    const [from, to] = [grip, event.clientX].sort((a, b) => a - b).map((at) => moment(canvas, at));
    const far = grip !== null && Math.abs(event.clientX - grip) > 4;
    grip = null;
    if (far) look(from, to);
  });
  canvas.addEventListener("pointercancel", () => { grip = null; repaint(); });
  canvas.addEventListener("dblclick", whole);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const found = nearest(event.clientX - box.left, event.clientY - box.top, box.width);
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = described(found);
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - 380)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  }

  document.getElementById("tools").hidden = false;
  new ResizeObserver(repaint).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    for (const details of document.querySelectorAll("details")) details.open = true;
    paint();
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    paint();
  });
}

listen();
paint();
