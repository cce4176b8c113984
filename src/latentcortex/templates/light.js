"use strict";
(function () {
  const told = JSON.parse(document.getElementById("told").textContent);
  const cortex = document.getElementById("cortex"), legend = document.getElementById("legend");
  const list = document.getElementById("maps"), said = document.getElementById("said"), at = document.getElementById("at");

  function add(parent, tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    parent.appendChild(made);
    return made;
  }
  function numbers(text, Kind) {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return new Kind(bytes.buffer);
  }
  const names = told.hemispheres[0].shapes.map((one) => one[0]);
  const sides = told.hemispheres.map((one) => ({
    name: one.name, first: one.first, n: one.n, shown: true,
    grey: numbers(one.grey, Uint8Array), triangles: numbers(one.triangles, Uint32Array),
    shapes: Object.fromEntries(one.shapes.map((pair) => [pair[0], numbers(pair[1], Float32Array)])),
  }));
  const labels = told.regions && numbers(told.regions.labels, Int32Array);
  let shape = names[0], map = told.maps[0], values = null, view = null, outlined = Boolean(labels);

  // Colours of vertices: the same arithmetic as in figures, laid over the grey of the curvature.

  function painted(one) {
    values = one.values ? numbers(one.values, Float32Array) : null;
    const palette = values && numbers(one.palette, Uint8Array), colours = values ? null : numbers(one.colours, Uint8Array);
    return sides.map((side) => Array.from({length: side.n}, (_, i) => {
      const vertex = side.first + i, grey = side.grey[i];
      let mixed = [grey, grey, grey];
      if (values && !Number.isNaN(values[vertex])) {
        const part = (values[vertex] - one.limits[0]) / (one.limits[1] - one.limits[0]);
        const place = 3 * Math.min(255, Math.max(0, Math.floor(256 * part)));
        mixed = [palette[place], palette[place + 1], palette[place + 2]];
      } else if (colours) {
        const opacity = colours[4 * vertex + 3] / 255;
        mixed = mixed.map((under, k) => Math.round(opacity * colours[4 * vertex + k] + (1 - opacity) * under));
      }
      return "rgb(" + mixed + ")";
    }));
  }

  // Surfaces and the borders of regions on them.

  function column(array, k) {
    return Array.from({length: array.length / 3}, (_, i) => array[3 * i + k]);
  }
  function mesh(side, colours) {
    const places = side.shapes[shape];
    return {
      type: "mesh3d", name: side.name, hoverinfo: "none", visible: side.shown, vertexcolor: colours,
      x: column(places, 0), y: column(places, 1), z: column(places, 2),
      i: column(side.triangles, 0), j: column(side.triangles, 1), k: column(side.triangles, 2),
      lighting: {ambient: 0.5, diffuse: 0.5, specular: 0, roughness: 1, fresnel: 0},
      lightposition: {x: -25000, y: 45000, z: -100000},
    };
  }
  function normals(side) {
    const places = side.shapes[shape], found = new Float32Array(places.length), t = side.triangles;
    for (let i = 0; i < t.length; i += 3) {
      const [a, b, c] = [t[i], t[i + 1], t[i + 2]].map((v) => places.subarray(3 * v, 3 * v + 3));
      const u = [0, 1, 2].map((k) => b[k] - a[k]), v = [0, 1, 2].map((k) => c[k] - a[k]);
      const face = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) found[3 * t[i + j] + k] += face[k];
    }
    for (let i = 0; i < found.length; i += 3) {
      const length = Math.hypot(found[i], found[i + 1], found[i + 2]) || 1;
      for (let k = 0; k < 3; k++) found[i + k] /= length;
    }
    return found;
  }
  // A border crosses edges half-way between vertices; its corners are then rounded by their neighbours.
  function borders(side) {
    const places = side.shapes[shape], out = normals(side), t = side.triangles, points = [], links = [], known = new Map();
    function mean(corners, key) {
      if (!known.has(key)) {
        const of = (array, k) => corners.reduce((sum, v) => sum + array[3 * v + k], 0) / corners.length;
        known.set(key, points.push({at: [0, 1, 2].map((k) => of(places, k)), out: [0, 1, 2].map((k) => of(out, k))}) - 1);
      }
      return known.get(key);
    }
    for (let i = 0; i < t.length; i += 3) {
      const crossed = [[t[i], t[i + 1]], [t[i + 1], t[i + 2]], [t[i + 2], t[i]]]
        .filter((pair) => labels[side.first + pair[0]] !== labels[side.first + pair[1]])
        .map((pair) => mean(pair, Math.min(...pair) + "-" + Math.max(...pair)));
      if (crossed.length === 2) links.push(crossed);
      if (crossed.length === 3) crossed.forEach((one) => links.push([one, mean([t[i], t[i + 1], t[i + 2]], "in " + i)]));
    }
    for (let round = 0; round < 4; round++) {
      const sums = points.map(() => [0, 0, 0, 0]);
      links.forEach(([a, b]) => [[a, b], [b, a]].forEach(([one, other]) => {
        points[other].at.forEach((value, k) => { sums[one][k] += value; });
        sums[one][3] += 1;
      }));
      points.forEach((point, i) => { if (sums[i][3] > 1) point.at = point.at.map((v, k) => (v + sums[i][k] / sums[i][3]) / 2); });
    }
    return {points, links};
  }
  function outline(side, found, colour, width, above) {
    const line = (k) => found.links.flatMap((pair) => [...pair.map((i) => found.points[i].at[k] + above * found.points[i].out[k]), null]);
    const [x, y, z] = [0, 1, 2].map(line);
    return {
      type: "scatter3d", mode: "lines", x, y, z, hoverinfo: "skip", showlegend: false, connectgaps: false,
      visible: side.shown && outlined, line: {color: colour, width: width},
    };
  }
  function traces() {
    const colours = painted(map);
    const drawn = sides.map((side, i) => mesh(side, colours[i]));
    if (labels) {
      sides.forEach((side) => {
        const found = borders(side);
        drawn.push(outline(side, found, "#20242a", 6, 0.9), outline(side, found, "#ffffff", 2.5, 1.3));
      });
    }
    return drawn;
  }

  // What is seen, and from where. A scene is a cube of so many mm round the middle of both hemispheres.

  function bounds(chosen) {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    chosen.forEach((side) => side.shapes[shape].forEach((value, i) => {
      low[i % 3] = Math.min(low[i % 3], value);
      high[i % 3] = Math.max(high[i % 3], value);
    }));
    return {middle: low.map((one, k) => (one + high[k]) / 2), half: low.map((one, k) => (high[k] - one) / 2)};
  }
  const X = [1, 0, 0], Y = [0, 1, 0], Z = [0, 0, 1], minus = (v) => v.map((one) => -one);
  const VIEWS = [
    {name: "Left lateral", from: minus(X), up: Z, of: ["left", "right"]},
    {name: "Right lateral", from: X, up: Z, of: ["left", "right"]},
    {name: "Left medial", from: X, up: Z, of: ["left"]},
    {name: "Right medial", from: minus(X), up: Z, of: ["right"]},
    {name: "Dorsal", from: Z, up: Y, of: ["left", "right"]},
    {name: "Ventral", from: minus(Z), up: Y, of: ["left", "right"]},
    {name: "Posterior", from: minus(Y), up: Z, of: ["left", "right"]},
    {name: "Anterior", from: Y, up: Z, of: ["left", "right"]},
  ];
  function vector(v) { return {x: v[0], y: v[1], z: v[2]}; }
  function cross(u, v) { return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]; }
  function size() { return 2.1 * Math.max(...bounds(sides).half); }
  function camera() {
    if (!view) return cortex.layout.scene.camera;
    const all = bounds(sides), seen = bounds(sides.filter((side) => side.shown)), scale = size();
    const middle = seen.middle.map((one, k) => (one - all.middle[k]) / scale);
    const along = (axis) => Math.abs(axis.reduce((sum, one, k) => sum + one * seen.half[k], 0)) / scale;
    const wide = along(cross(view.up, view.from)), high = along(view.up);
    const narrow = Math.max(high, wide * cortex.clientHeight / Math.max(cortex.clientWidth, 1));
    const away = along(view.from) + 1.12 * narrow / Math.tan(Math.PI / 8);
    return {center: vector(middle), up: vector(view.up), eye: vector(middle.map((one, k) => one + away * view.from[k]))};
  }
  function layout() {
    const all = bounds(sides), half = size() / 2;
    const axis = (k) => ({visible: false, showspikes: false, range: [all.middle[k] - half, all.middle[k] + half]});
    return {
      margin: {l: 0, r: 0, t: 0, b: 0}, paper_bgcolor: "#fff", showlegend: false,
      scene: {xaxis: axis(0), yaxis: axis(1), zaxis: axis(2), aspectmode: "cube", dragmode: "orbit", camera: camera()},
    };
  }
  function draw() {
    return Plotly.react(cortex, traces(), layout(), {displayModeBar: false, responsive: true, scrollZoom: true});
  }
  function look(next) {
    const before = sides.map((side) => side.shown).join();
    view = next;
    sides.forEach((side) => { side.shown = view.of.includes(side.name); });
    press();
    if (before !== sides.map((side) => side.shown).join()) draw();
    else Plotly.relayout(cortex, {"scene.camera": camera()});
    point(camera());
  }
  // Once it was turned by hand, none of the views is the one that is seen.
  function free() {
    if (view && JSON.stringify(cortex.layout.scene.camera) !== JSON.stringify(camera())) view = null;
    press();
    point(cortex.layout.scene.camera);
  }

  // Words at the edges say where they lie, however the cortex is turned.

  const WORDS = [["left", "right"], ["back", "front"], ["bottom", "top"]];
  function word(v) {
    const most = [0, 1, 2].reduce((best, k) => (Math.abs(v[k]) > Math.abs(v[best]) ? k : best), 0);
    return WORDS[most][v[most] > 0 ? 1 : 0];
  }
  function point(seen) {
    const list = (v) => [v.x, v.y, v.z], middle = list(seen.center);
    const eye = list(seen.eye).map((one, k) => one - middle[k]);
    const right = cross(list(seen.up), eye), up = cross(eye, right);
    const said = {left: minus(right), right: right, top: up, bottom: minus(up)};
    Object.keys(said).forEach((edge) => { document.getElementById("to-" + edge).textContent = word(said[edge]); });
  }

  // The keys turn what is seen about the middle of the picture, as a drag does.

  function turned(v, axis, angle) {
    const side = cross(axis, v), dot = axis.reduce((sum, one, k) => sum + one * v[k], 0);
    return v.map((one, k) => one * Math.cos(angle) + side[k] * Math.sin(angle) + axis[k] * dot * (1 - Math.cos(angle)));
  }
  function unit(v) { const length = Math.hypot(...v); return v.map((one) => one / length); }
  function move(axis, angle, closer) {
    view = null;
    const now = cortex.layout.scene.camera, list = (v) => [v.x, v.y, v.z];
    const middle = list(now.center || vector([0, 0, 0])), eye = list(now.eye).map((one, k) => one - middle[k]);
    const right = unit(cross(list(now.up), eye)), up = unit(cross(eye, right));
    const about = axis === "right" ? right : up;
    const next = turned(eye, about, angle).map((one) => one * closer);
    Plotly.relayout(cortex, {"scene.camera": {
      center: vector(middle), up: vector(turned(up, about, angle)), eye: vector(next.map((one, k) => one + middle[k])),
    }});
  }
  const STEP = Math.PI / 18;
  const KEYS = {
    ArrowLeft: ["up", STEP, 1], ArrowRight: ["up", -STEP, 1], ArrowUp: ["right", STEP, 1], ArrowDown: ["right", -STEP, 1],
    "+": ["up", 0, 1 / 1.15], "=": ["up", 0, 1 / 1.15], "-": ["up", 0, 1.15],
  };
  cortex.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    event.preventDefault();
    move(...KEYS[event.key]);
  });

  // Beside it: which maps there are, and what the colours of the chosen one mean.

  const pressed = [];
  function press() { pressed.forEach((one) => one[0].setAttribute("aria-pressed", String(one[1]()))); }
  function button(row, text, what, isOn) {
    const made = add(document.getElementById(row), "button", text);
    made.type = "button";
    pressed.push([made, isOn]);
    made.addEventListener("click", what);
  }
  function picture(parent, source, words, name) {
    const made = add(parent, "img", undefined, name);
    made.alt = words;
    made.src = source;
  }
  function scale(facts) {
    picture(legend, facts.image, "colours from low to high", "bar");
    const ends = add(legend, "div", undefined, "ends");
    [facts.low, facts.high].forEach((text) => add(ends, "span", text));
  }
  function square(facts) {
    const grid = add(legend, "div", undefined, "square"), side = add(grid, "div", undefined, "side");
    [facts.high, facts.names[1], facts.low].forEach((text) => add(side, "span", text));
    picture(grid, facts.image, facts.names[0] + " from left to right, " + facts.names[1] + " upwards");
    const below = add(grid, "div", undefined, "below");
    [facts.low, facts.names[0], facts.high].forEach((text) => add(below, "span", text));
  }
  function explain() {
    legend.textContent = "";
    add(legend, "p", map.title, "what");
    if (map.legend.label) add(legend, "p", map.legend.label, "label");
    if (map.legend.kind === "scale") scale(map.legend);
    if (map.legend.kind === "square") square(map.legend);
    (map.legend.swatches || []).forEach((one) => {
      const row = add(legend, "div", undefined, "swatch");
      add(row, "i").style.background = one[0];
      add(row, "span", one[1]);
    });
    add(legend, "p", map.note, "note");
  }
  const items = [];
  function mark(number) {
    items.forEach((item, i) => {
      item.setAttribute("aria-current", String(i === number));
      item.tabIndex = i === number ? 0 : -1;  // the arrow keys reach the others
    });
  }
  function choose(number) {
    map = told.maps[number];
    mark(number);
    explain();
    at.textContent = "";
    Plotly.restyle(cortex, {vertexcolor: painted(map)}, sides.map((_, i) => i));
  }
  told.maps.forEach((one, i) => {
    if (!i || one.heading !== told.maps[i - 1].heading) {
      if (one.heading) add(list, "h2", one.heading);
      add(list, "ul");
    }
    const item = add(add(list.lastChild, "li"), "button", one.title);
    item.type = "button";
    item.addEventListener("click", () => choose(i));
    item.addEventListener("keydown", (event) => {
      const next = items[i + {ArrowDown: 1, ArrowUp: -1}[event.key]];
      if (!next) return;
      event.preventDefault();
      next.focus();
      next.click();
    });
    items.push(item);
  });

  function pointed(event) {
    const point = event.points[0], side = sides[point.curveNumber];
    if (!side) return;
    const vertex = side.first + point.pointNumber, words = [side.name + " vertex " + point.pointNumber.toLocaleString("en")];
    if (labels && labels[vertex] > 0) words.push(told.regions.names[labels[vertex]] || "region " + labels[vertex]);
    if (values) words.push(Number.isNaN(values[vertex]) ? "no value" : String(Number(values[vertex].toPrecision(4))));
    at.textContent = words.join(" · ");
  }

  names.forEach((name) => button("shapes", name, () => { shape = name; press(); draw(); }, () => shape === name));
  VIEWS.forEach((one) => button("sides", one.name, () => look(one), () => view === one));
  const box = document.getElementById("outlines");
  if (box) box.addEventListener("change", () => {
    outlined = box.checked;
    const lines = cortex.data.flatMap((one, i) => (one.type === "scatter3d" ? [i] : []));
    Plotly.restyle(cortex, {visible: lines.map((i) => outlined && sides[(i - sides.length) >> 1].shown)}, lines);
  });

  view = VIEWS[0];
  press();
  explain();
  mark(0);
  draw().then(() => {
    cortex.on("plotly_hover", pointed);
    cortex.on("plotly_relayouting", (event) => { if (event["scene.camera"]) point(event["scene.camera"]); });
    cortex.on("plotly_relayout", free);
    point(camera());
    window.addEventListener("resize", () => { if (view) Plotly.relayout(cortex, {"scene.camera": camera()}); });
    cortex.on("plotly_unhover", () => { at.textContent = ""; });
    said.textContent = "";
    document.body.setAttribute("data-ready", "");
  });
})();
