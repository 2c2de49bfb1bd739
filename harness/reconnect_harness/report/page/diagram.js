// The space-time diagram: clients above, the system under test in the middle, upstreams below, time to the right.

const CLIENTS = 44;
const MIDDLE_TOP = 176;
const MIDDLE = 230;
const MIDDLE_BOTTOM = 284;
const UPSTREAMS = 416;
// Strokes are drawn in portions: crossing lines of one stroke do not become darker.
const PORTION = 200;
// How many lines of a kind are drawn at a time. More could not be told apart, and take seconds without a graphics card.
const MOST_LINES = 2000;

function lanes(direction) {
  if (data.echoed) return [CLIENTS, CLIENTS];
  return direction === "c2u" ? [CLIENTS, UPSTREAMS] : [UPSTREAMS, CLIENTS];
}

// The corners of a message's line: moments and heights. An echo turns round at the other end, at an unknown moment that
// is drawn half-way. A lost message is a stub, since how far it came is not known.
function corners(column, i, direction) {
  const [from, to] = lanes(direction);
  const [sent, arrived] = [column.sent[i], column.arrived[i]];
  const far = data.echoed ? UPSTREAMS : to;
  if (Number.isNaN(arrived)) return [[sent, from], [sent, from + (far - from) * 0.22]];
  return data.echoed ? [[sent, from], [(sent + arrived) / 2, far], [arrived, to]] : [[sent, from], [arrived, to]];
}

function draw(pen, x, [first, ...others]) {
  pen.moveTo(x(first[0]), first[1]);
  for (const [t, y] of others) pen.lineTo(x(t), y);
}

function visible(visit) {
  for (const session of shownSessions()) {
    for (const direction of DIRECTIONS) {
      const column = session[direction];
      if (!column || !view.directions.has(direction)) continue;
      for (let i = 0; i < column.sent.length && column.sent[i] <= view.to; i += 1) {
        const arrived = column.arrived[i];
        if (arrived >= view.from || (Number.isNaN(arrived) && column.sent[i] >= view.from)) {
          visit(column, i, direction, session);
        }
      }
    }
  }
}

function paintDiagram() {
  const { pen, width, height } = surface("diagram");
  const x = place(width);
  timeAxis(pen, x, width, height - 10, CLIENTS, UPSTREAMS);
  const lines = { c2u: { quick: [], held: [] }, u2c: { quick: [], held: [] } };
  const [wrong, allowed] = [[], []];
  let bands = [];
  visible((column, i, direction) => {
    const flaw = column.flaw.get(i);
    if (flaw) (against(flaw, direction) ? wrong : allowed).push([column, i, direction, flaw]);
    else lines[direction][column.arrived[i] - column.sent[i] > data.held ? "held" : "quick"].push([column, i, direction]);
  });
  clipped(pen, width, height, () => {
    for (const pace of ["quick", "held"]) {
      for (const direction of DIRECTIONS) paintLines(pen, x, thinned(lines[direction][pace], x), direction, pace);
    }
    for (const flawed of thinned(allowed, x)) paintFlaw(pen, x, allowed.length, ...flawed);
    // The lines are dimmed where the queue is drawn; the faults are drawn over them, to be visible.
    pen.fillStyle = colour("ground");
    pen.globalAlpha = 0.8;
    pen.fillRect(LEFT, MIDDLE_TOP, width, MIDDLE_BOTTOM - MIDDLE_TOP);
    pen.globalAlpha = 1;
    bands = paintFaults(pen, x, width);
    paintQueue(pen, x, width);
    paintEnds(pen, x);
    paintRecoveries(pen, x);
    for (const flawed of thinned(wrong, x)) paintFlaw(pen, x, wrong.length, ...flawed);
  });
  paintLanes(pen, width);
  for (const [fault, left, right, y] of bands) paintName(pen, fault, left, right, y);
}

// Each fault is drawn on its link, or along the lane of its end.
function paintFaults(pen, x, width) {
  const places = {
    "link client": [CLIENTS, MIDDLE_TOP],
    "link middle": [MIDDLE_TOP, MIDDLE_BOTTOM],
    "link upstream": [MIDDLE_BOTTOM, UPSTREAMS],
    "process clients": [CLIENTS - 12, CLIENTS + 12],
    "process proxy": [MIDDLE_TOP, MIDDLE_BOTTOM],
    "process upstream": [UPSTREAMS - 12, UPSTREAMS + 12],
  };
  const bands = [];
  for (const fault of data.faults) {
    // Several upstreams or proxies have numbers, and are drawn in one place.
    const [top, bottom] = places[`${fault.on} ${fault.target.replace(/-\d+$/, "")}`] || [CLIENTS, UPSTREAMS];
    const drawn = band(pen, x, width, fault, top, bottom);
    if (drawn) bands.push([fault, ...drawn, fault.on === "link" ? (top + bottom) / 2 : top - 4]);
  }
  return bands;
}

function paintName(pen, fault, left, right, y) {
  const fits = (name) => pen.measureText(name).width + 8 <= right - left;
  const name = [`${fault.name} ${fault.target}`, fault.name].find(fits);
  if (!name) return;
  const wide = pen.measureText(name).width + 8;
  pen.fillStyle = colour("ground");
  pen.globalAlpha = 0.85;
  pen.fillRect((left + right - wide) / 2, y - 9, wide, 18);
  pen.globalAlpha = 1;
  pen.fillStyle = colour("ink");
  pen.textAlign = "center";
  pen.fillText(name, (left + right) / 2, y + 4);
}

// One of the lines that would cover each other, and no more of the others than can be told apart.
function thinned(lines, x) {
  const distinct = new Map();
  for (const line of lines) {
    const [column, i] = line;
    const key = `${Math.round(x(column.sent[i]))} ${Math.round(x(column.arrived[i]))} ${line[2]}`;
    if (!distinct.has(key)) distinct.set(key, line);
  }
  const kept = [...distinct.values()];
  const every = Math.ceil(kept.length / MOST_LINES);
  return every > 1 ? kept.filter((_, at) => at % every === 0) : kept;
}

function paintLines(pen, x, lines, direction, pace) {
  const [least, most, ink] = pace === "held" ? [0.1, 0.85, 260] : [0.06, 0.6, 160];
  pen.globalAlpha = Math.max(least, Math.min(most, ink / lines.length));
  pen.strokeStyle = colour(direction);
  for (let start = 0; start < lines.length; start += PORTION) {
    pen.beginPath();
    for (const line of lines.slice(start, start + PORTION)) draw(pen, x, corners(...line));
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

// The messages in flight, as [moment, how many] where their number changes: for all sessions from the series, which
// counts every message; for one session from its drawn messages.
function queue(direction) {
  if (!view.session) {
    return data.depth[direction].map((count, i) => [data.fine.start + i * data.fine.step, count]);
  }
  const changes = [];
  for (const session of shownSessions()) {
    const column = session[direction];
    if (!column) continue;
    column.sent.forEach((sent, i) => {
      const flaw = column.flaw.get(i);
      if (flaw && (!flaw.wasSent || flaw.letters.includes("d"))) return;
      changes.push([sent, 1]);
      if (!Number.isNaN(column.arrived[i])) changes.push([column.arrived[i], -1]);
    });
  }
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let count = 0;
  return changes.map(([t, change]) => [t, (count += change)]);
}

function paintQueue(pen, x, width) {
  const queues = DIRECTIONS.filter((direction) => view.directions.has(direction)).map((d) => [d, queue(d)]);
  let most = 1;
  for (const [, steps] of queues) for (const [, count] of steps) most = Math.max(most, count);
  for (const [direction, steps] of queues) {
    const reach = ((MIDDLE_BOTTOM - MIDDLE_TOP) / 2 - 3) * (direction === "c2u" ? -1 : 1);
    pen.beginPath();
    pen.moveTo(x(data.start), MIDDLE);
    let before = 0;
    for (const [t, count] of steps) {
      pen.lineTo(x(t), MIDDLE + (reach * before) / most);
      pen.lineTo(x(t), MIDDLE + (reach * count) / most);
      before = count;
    }
    pen.lineTo(x(data.end), MIDDLE + (reach * before) / most);
    pen.lineTo(x(data.end), MIDDLE);
    pen.closePath();
    pen.fillStyle = colour(direction);
    pen.globalAlpha = 0.85;
    pen.fill();
    pen.globalAlpha = 1;
  }
  pen.fillStyle = colour("ink");
  pen.fillRect(LEFT, MIDDLE - 0.5, width, 1);
  view.most = most;
}

function paintEnds(pen, x) {
  pen.strokeStyle = colour("ink");
  pen.beginPath();
  for (const [t, end, name] of data.links) {
    if (t < view.from || t > view.to || (end === "client" && view.session && name.split(".")[0] !== view.session)) continue;
    const y = end === "client" ? CLIENTS - 9 : UPSTREAMS + 9;
    for (const slope of [-1, 1]) {
      pen.moveTo(x(t) - 3, y - 3 * slope);
      pen.lineTo(x(t) + 3, y + 3 * slope);
    }
  }
  pen.stroke();
}

function paintRecoveries(pen, x) {
  pen.textAlign = "left";
  for (const fault of data.faults) {
    if (fault.recovery === null || fault.recovery < 0) continue;
    const at = x(fault.to + fault.recovery);
    pen.strokeStyle = colour("good");
    pen.fillStyle = colour("good");
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(at, 24);
    pen.lineTo(at, UPSTREAMS);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillText(`⚑ ${seconds(fault.recovery)}`, at - 3, 20);
  }
}

const SHAPES = { l: "✕", d: "◆", r: "▲", c: "■", m: "⇄" };
const CHECKS = { l: "lost", d: "duplicated", r: "reordered", c: "corrupted", m: "misdelivered" };

// Whether a flaw makes the run invalid, or is allowed by the scenario.
function against(flaw, direction) {
  return [...flaw.letters].some((letter) => data.failed.includes(`${CHECKS[letter]} ${direction}`));
}

// Flaws that the scenario allows are drawn as thin as other lines; the others stand out.
function paintFlaw(pen, x, count, column, i, direction, flaw) {
  const held = against(flaw, direction);
  const line = corners(column, i, direction);
  const [end, y] = line.at(-1);
  pen.strokeStyle = pen.fillStyle = colour(held ? "bad" : "quiet");
  pen.globalAlpha = Math.max(held ? 0.3 : 0.04, Math.min(1, (held ? 900 : 80) / count));
  pen.lineWidth = held ? 2 : 1;
  pen.beginPath();
  if (flaw.wasSent) draw(pen, x, line);
  pen.stroke();
  pen.globalAlpha = 1;
  pen.lineWidth = 1;
  if (!held && count > 200) return;
  pen.textAlign = "center";
  pen.font = "bold 14px system-ui, 'DejaVu Sans', sans-serif";
  pen.fillText(SHAPES[flaw.letters[0]], x(end), y + 5);
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
}

function paintLanes(pen, width) {
  const names = [["clients", CLIENTS], ["upstream", UPSTREAMS]];
  for (const [name, y] of names) {
    pen.fillStyle = colour("ink");
    pen.fillRect(LEFT, y - 1, width - LEFT - RIGHT, 2);
    pen.textAlign = "right";
    pen.fillText(name === "clients" && view.session ? view.session : name, LEFT - 10, y + 4);
  }
  pen.strokeStyle = colour("rule");
  pen.strokeRect(LEFT, MIDDLE_TOP, width - LEFT - RIGHT, MIDDLE_BOTTOM - MIDDLE_TOP);
  pen.fillText(data.proxied ? "proxy" : "network", LEFT - 10, MIDDLE + 4);
  pen.fillStyle = colour("quiet");
  pen.fillText(`▲ ${view.most.toLocaleString("en")}`, LEFT - 10, MIDDLE_TOP + 12);
  pen.fillText(`▼ ${view.most.toLocaleString("en")}`, LEFT - 10, MIDDLE_BOTTOM - 4);
}

// The message whose line is nearest to a point of the canvas, within a few pixels.
function nearest(pointX, pointY, width) {
  const x = place(width);
  let best = null;
  let least = 6;
  visible((column, i, direction, session) => {
    const line = corners(column, i, direction);
    for (let at = 1; at < line.length; at += 1) {
      const [[startT, startY], [endT, endY]] = [line[at - 1], line[at]];
      const share = (pointY - startY) / (endY - startY);
      if (share < 0 || share > 1) continue;
      const [startX, endX] = [x(startT), x(endT)];
      const lean = Math.hypot(endX - startX, endY - startY) / Math.abs(endY - startY);
      const distance = Math.abs(startX + (endX - startX) * share - pointX) / lean;
      if (distance < least) {
        least = distance;
        best = { column, i, direction, session };
      }
    }
  });
  return best;
}

function described({ column, i, direction, session }) {
  const flaw = column.flaw.get(i);
  const came = Number.isNaN(column.arrived[i])
    ? "never received"
    : `received at ${column.arrived[i].toFixed(4)} s, after ${seconds(column.arrived[i] - column.sent[i])}`;
  const wrong = flaw ? ` · ${[...flaw.letters].map((letter) => CHECKS[letter]).join(", ")}` : "";
  const sent = flaw && !flaw.wasSent ? "never sent" : `sent at ${column.sent[i].toFixed(4)} s`;
  return `${direction} ${session.name} number ${column.number[i]}, ${column.size[i]} bytes: ${sent}, ${came}${wrong}`;
}

painters.push(paintDiagram);
