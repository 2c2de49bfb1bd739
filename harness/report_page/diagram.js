// The space-time diagram: clients above, the system under test in the middle, upstreams below, time to the right.

const CLIENTS = 44;
const MIDDLE_TOP = 176;
const MIDDLE = 230;
const MIDDLE_BOTTOM = 284;
const UPSTREAMS = 416;
// Strokes are drawn in portions: within one stroke lines that cross do not add up.
const PORTION = 400;

function lanes(direction) {
  return direction === "c2u" ? [CLIENTS, UPSTREAMS] : [UPSTREAMS, CLIENTS];
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
  const bands = paintFaults(pen, x, width);
  const lines = { c2u: { quick: [], held: [] }, u2c: { quick: [], held: [] } };
  const flawed = [];
  visible((column, i, direction) => {
    const flaw = column.flaw.get(i);
    if (flaw) flawed.push([column, i, direction, flaw]);
    else lines[direction][column.arrived[i] - column.sent[i] > data.held ? "held" : "quick"].push(column, i);
  });
  clipped(pen, width, height, () => {
    for (const pace of ["quick", "held"]) {
      for (const direction of DIRECTIONS) paintLines(pen, x, lines[direction][pace], direction, pace);
    }
    paintQueue(pen, x, width);
    paintEnds(pen, x);
    paintRecoveries(pen, x);
    for (const wrong of flawed) paintFlaw(pen, x, ...wrong);
  });
  paintLanes(pen, width);
  for (const [fault, left, right, y] of bands) paintName(pen, `${fault.name} ${fault.target}`, left, right, y);
}

// Each fault is drawn where it was done: on its link, or along the lane of the end that it was done to.
function paintFaults(pen, x, width) {
  const places = {
    "link client": [CLIENTS, MIDDLE_TOP],
    "link upstream": [MIDDLE_BOTTOM, UPSTREAMS],
    "process clients": [CLIENTS - 12, CLIENTS + 12],
    "process proxy": [MIDDLE_TOP, MIDDLE_BOTTOM],
    "process upstream": [UPSTREAMS - 12, UPSTREAMS + 12],
  };
  const bands = [];
  for (const fault of data.faults) {
    const [top, bottom] = places[`${fault.on} ${fault.target}`] || [CLIENTS, UPSTREAMS];
    const drawn = band(pen, x, width, fault, top, bottom);
    if (drawn) bands.push([fault, ...drawn, fault.on === "link" ? (top + bottom) / 2 : top - 4]);
  }
  return bands;
}

function paintName(pen, name, left, right, y) {
  const wide = pen.measureText(name).width + 8;
  if (right - left < wide) return;
  pen.fillStyle = colour("ground");
  pen.globalAlpha = 0.85;
  pen.fillRect((left + right - wide) / 2, y - 9, wide, 18);
  pen.globalAlpha = 1;
  pen.fillStyle = colour("ink");
  pen.textAlign = "center";
  pen.fillText(name, (left + right) / 2, y + 4);
}

function paintLines(pen, x, lines, direction, pace) {
  const [from, to] = lanes(direction);
  const count = lines.length / 2;
  const least = pace === "held" ? 0.12 : 0.05;
  pen.globalAlpha = Math.max(least, Math.min(pace === "held" ? 0.85 : 0.6, (pace === "held" ? 900 : 500) / count));
  pen.strokeStyle = colour(direction);
  for (let start = 0; start < lines.length; start += 2 * PORTION) {
    pen.beginPath();
    for (let at = start; at < Math.min(lines.length, start + 2 * PORTION); at += 2) {
      const column = lines[at];
      const i = lines[at + 1];
      pen.moveTo(x(column.sent[i]), from);
      pen.lineTo(x(column.arrived[i]), to);
    }
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

// The messages under way, as [moment, how many] where their number changes: of all sessions from the series, which
// counts every message; of one session from its drawn ones.
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
  pen.fillStyle = colour("ground");
  pen.globalAlpha = 0.8;
  pen.fillRect(LEFT, MIDDLE_TOP, width, MIDDLE_BOTTOM - MIDDLE_TOP);
  pen.globalAlpha = 1;
  for (const fault of data.faults) {
    if (fault.on === "process" && fault.target === "proxy") band(pen, x, width, fault, MIDDLE_TOP, MIDDLE_BOTTOM);
  }
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
    if (t < view.from || t > view.to || (end === "client" && view.session && name !== view.session)) continue;
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

const SHAPES = { l: "✕", d: "◆", r: "▲", c: "■" };
const CHECKS = { l: "lost", d: "duplicated", r: "reordered", c: "corrupted" };

function paintFlaw(pen, x, column, i, direction, flaw) {
  const against = [...flaw.letters].some((letter) => data.failed.includes(`${CHECKS[letter]} ${direction}`));
  const [from, to] = lanes(direction);
  const lost = Number.isNaN(column.arrived[i]);
  const endX = x(lost ? column.sent[i] : column.arrived[i]);
  // What is lost is known to have left, and not how far it came.
  const endY = lost ? from + (to - from) * 0.22 : to;
  pen.strokeStyle = pen.fillStyle = colour(against ? "bad" : "quiet");
  pen.lineWidth = against ? 2 : 1;
  pen.beginPath();
  if (flaw.wasSent) {
    pen.moveTo(x(column.sent[i]), from);
    pen.lineTo(endX, endY);
  }
  pen.stroke();
  pen.lineWidth = 1;
  pen.textAlign = "center";
  pen.font = "bold 14px system-ui, 'DejaVu Sans', sans-serif";
  pen.fillText(SHAPES[flaw.letters[0]], endX, endY + 5);
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
    const [from, to] = lanes(direction);
    const lost = Number.isNaN(column.arrived[i]);
    const share = (pointY - from) / (to - from);
    if (share < 0 || share > (lost ? 0.25 : 1)) return;
    const startX = x(column.sent[i]);
    const endX = lost ? startX : x(column.arrived[i]);
    const lean = Math.hypot(endX - startX, to - from) / Math.abs(to - from);
    const distance = Math.abs(startX + (endX - startX) * share - pointX) / lean;
    if (distance < least) {
      least = distance;
      best = { column, i, direction, session };
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
