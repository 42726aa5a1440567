// The maps of one exam: slices of all maps at once, the series as a film, the curve of the voxel that is chosen.
// No library: 2-D slices need no WebGL, so that the page opens on any machine, from a file and without a network.
// Words: a slice is shown as (row, column), row 0 in front, the patient's right on the left; a voxel is chosen by
// (column, row, slice). Arrays come packed (viewer/packing.py).
"use strict";

(async function () {
  const root = document.getElementById("viewer");
  const exam = JSON.parse(document.getElementById("viewer-exam").textContent);
  const [columns, rows, slices] = exam.shape;
  const element = (name) => root.querySelector(`[data-part="${name}"]`);

  // ------------------------------------------------------------------------------------------------ arrays

  async function unpacked(name, Type) {
    const text = document.getElementById(`viewer-${name}`).textContent;
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Type(await new Response(stream).arrayBuffer());
  }

  const arrays = {};
  try {
    await Promise.all(exam.arrays.map(async ([name, type]) => {
      arrays[name] = await unpacked(name, { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array }[type]);
    }));
  } catch (error) {
    element("failed").hidden = false;
    element("failed").textContent =
      "This browser cannot show the maps (it lacks DecompressionStream); a browser of 2023 or later can. The picture " +
      "of the maps, and all numbers, are further down.";
    return;
  }

  // Film and fit are kept as what each frame adds to the one before.
  for (const values of [arrays.film, arrays.fitted]) {
    if (!values) { continue; }
    const size = values.length / exam.frames;
    for (let i = size; i < values.length; i++) { values[i] += values[i - size]; }
  }

  const perSlice = columns * rows;
  const place = (column, row, slice) => slice * perSlice + row * columns + column;
  // Number of the curve of each tissue voxel; -1 outside. Curves are of single voxels, or of squares of them.
  const curveOf = new Int32Array(perSlice * slices).fill(-1);
  const [wide, high] = [Math.ceil(columns / exam.block), Math.ceil(rows / exam.block)];
  const squareOf = (index) => {
    const [slice, row, column] = [Math.floor(index / perSlice), Math.floor(index % perSlice / columns), index % columns];
    return (slice * high + Math.floor(row / exam.block)) * wide + Math.floor(column / exam.block);
  };
  const numbers = new Int32Array(slices * high * wide).fill(-1);
  arrays.tissue.forEach((inside, index) => { if (inside) { numbers[squareOf(index)] = 0; } });
  let nCurves = 0;
  numbers.forEach((there, square) => { if (there === 0) { numbers[square] = nCurves++; } });
  arrays.tissue.forEach((inside, index) => { if (inside) { curveOf[index] = numbers[squareOf(index)]; } });

  const valueAt = (map, index) => {
    const code = arrays[map.array][index];
    return code === 0 ? null : map.low + (code - 1) * (map.high - map.low) / 65534;
  };

  // ------------------------------------------------------------------------------------------------- state

  const state = {
    slice: exam.first.slice, column: exam.first.column, row: exam.first.row, frame: exam.first.frame,
    palette: "clinical", overlay: true, opacity: 0.5, threshold: 6, arteries: true, timer: null,
  };
  const tables = Object.fromEntries(Object.entries(exam.palettes).map(
    ([name, text]) => [name, Uint8Array.from(atob(text), (character) => character.charCodeAt(0))]));
  const paletteOf = (map) => tables[state.palette === "clinical" ? map.colours : state.palette];

  // ------------------------------------------------------------------------------------------------- panes

  const panes = [...root.querySelectorAll("[data-map]")].map((pane) => {
    const map = exam.maps[Number(pane.dataset.map)];
    const [low, high] = pane.querySelectorAll("input");
    for (const [end, input] of [[0, low], [1, high]]) {
      input.value = map.window[end];
      input.addEventListener("change", () => {
        const value = Number(input.value);
        const other = map.window[1 - end];
        const fits = input.value !== "" && Number.isFinite(value) && (end === 0 ? value < other : value > other);
        if (fits) { map.window[end] = value; } else { input.value = map.window[end]; }
        draw();
      });
    }
    const tmax = exam.maps.find((other) => other.method === map.method && other.name === "tmax");
    return { map, tmax, canvas: pane.querySelector("canvas.slice"), bar: pane.querySelector("canvas.bar"),
      text: pane.querySelector("output") };
  });
  const film = { canvas: element("film"), tmax: exam.maps.find((map) => map.name === "tmax") };
  const canvases = [...panes.map((pane) => pane.canvas), film.canvas];

  const sheet = document.createElement("canvas"); // one slice, a pixel for each voxel
  sheet.width = columns;
  sheet.height = rows;
  const pixels = new ImageData(columns, rows);

  function fitted(canvas) {
    // As many pixels as the screen has, so that edges and lines are sharp.
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(width * rows * exam.aspect / columns));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.fillStyle = "black";
    context.fillRect(0, 0, width, height);
    return context;
  }

  function put(context, image, smooth) {
    context.imageSmoothingEnabled = smooth;
    context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
  }

  function drawMap(pane) {
    const context = fitted(pane.canvas);
    const palette = paletteOf(pane.map);
    const [low, high] = pane.map.window;
    const values = arrays[pane.map.array];
    const step = (pane.map.high - pane.map.low) / 65534;
    const begin = state.slice * perSlice;
    for (let i = 0; i < perSlice; i++) {
      const code = values[begin + i];
      const share = (pane.map.low + (code - 1) * step - low) / (high - low);
      const colour = 3 * Math.round(255 * Math.min(1, Math.max(0, share)));
      pixels.data[4 * i] = code ? palette[colour] : 0;
      pixels.data[4 * i + 1] = code ? palette[colour + 1] : 0;
      pixels.data[4 * i + 2] = code ? palette[colour + 2] : 0;
      pixels.data[4 * i + 3] = 255;
    }
    sheet.getContext("2d").putImageData(pixels, 0, 0);
    put(context, sheet, false);
    drawMarks(context, pane.tmax, false);
    const here = valueAt(pane.map, place(state.column, state.row, state.slice));
    pane.text.textContent = here === null ? "–" : `${here.toFixed(pane.map.digits)} ${pane.map.unit}`;
    const bar = pane.bar.getContext("2d");
    for (let x = 0; x < pane.bar.width; x++) {
      const colour = 3 * Math.round(255 * x / (pane.bar.width - 1));
      bar.fillStyle = `rgb(${palette[colour]},${palette[colour + 1]},${palette[colour + 2]})`;
      bar.fillRect(x, 0, 1, pane.bar.height);
    }
  }

  function drawFilm() {
    const context = fitted(film.canvas);
    const [filmColumns, filmRows] = exam.film.shape;
    const size = filmColumns * filmRows;
    const image = new ImageData(filmColumns, filmRows);
    const begin = (state.frame * slices + state.slice) * size;
    for (let i = 0; i < size; i++) {
      const grey = arrays.film[begin + i] * exam.film.step;
      image.data.set([grey, grey, grey, 255], 4 * i);
    }
    const small = document.createElement("canvas");
    small.width = filmColumns;
    small.height = filmRows;
    small.getContext("2d").putImageData(image, 0, 0);
    put(context, small, true);
    drawMarks(context, film.tmax, true);
    element("frame-text").textContent =
      `frame ${state.frame + 1} of ${exam.frames}, ${(state.frame * exam.frame_seconds).toFixed(1)} s`;
  }

  function drawMarks(context, tmax, filled) {
    const wide = context.canvas.width / columns;
    const high = context.canvas.height / rows;
    const begin = state.slice * perSlice;
    if (state.overlay && tmax) {
      const isLate = (column, row) => column >= 0 && row >= 0 && column < columns && row < rows &&
        arrays[tmax.array][begin + row * columns + column] > lateCode(tmax);
      context.fillStyle = `rgba(255, 64, 160, ${state.opacity})`;
      context.beginPath();
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          if (!isLate(column, row)) { continue; }
          const [x, y] = [column * wide, row * high];
          if (filled) { context.fillRect(x, y, wide + 0.5, high + 0.5); continue; }
          if (!isLate(column - 1, row)) { context.moveTo(x, y); context.lineTo(x, y + high); }
          if (!isLate(column + 1, row)) { context.moveTo(x + wide, y); context.lineTo(x + wide, y + high); }
          if (!isLate(column, row - 1)) { context.moveTo(x, y); context.lineTo(x + wide, y); }
          if (!isLate(column, row + 1)) { context.moveTo(x, y + high); context.lineTo(x + wide, y + high); }
        }
      }
      // White within black: seen on every colour.
      for (const [colour, width] of [["0, 0, 0", wide / 2], ["255, 255, 255", wide / 4]]) {
        context.strokeStyle = `rgba(${colour}, ${Math.min(1, 2 * state.opacity)})`;
        context.lineWidth = Math.max(1, width);
        context.stroke();
      }
    }
    if (state.arteries) {
      context.strokeStyle = "#ff9d2e";
      context.lineWidth = Math.max(1, wide / 4);
      for (const [column, row, slice] of exam.arteries) {
        if (slice === state.slice) { context.strokeRect(column * wide, row * high, wide, high); }
      }
    }
    const [x, y] = [(state.column + 0.5) * wide, (state.row + 0.5) * high];
    const gap = Math.max(4, 2.5 * wide);
    context.strokeStyle = "rgba(255, 255, 255, 0.85)";
    context.lineWidth = 1;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * gap, y + dy * gap);
      context.lineTo(x + dx * 3 * gap, y + dy * 3 * gap);
    }
    context.stroke();
    context.fillStyle = "rgba(255, 255, 255, 0.8)";
    context.font = `${Math.round(11 * (window.devicePixelRatio || 1))}px sans-serif`;
    context.textBaseline = "top";
    context.textAlign = "left";
    context.fillText("R", 4, 4);
    context.textAlign = "right";
    context.fillText("L", context.canvas.width - 4, 4);
  }

  // The largest code whose value is not above the threshold.
  const lateCode = (tmax) => Math.max(0, 1 + Math.floor((state.threshold - tmax.low) / (tmax.high - tmax.low) * 65534));

  // ------------------------------------------------------------------------------------------------- curves

  function curve(name, index) {
    const low = arrays.curve_low[index];
    const step = (arrays.curve_high[index] - low) / exam.levels;
    return Array.from({ length: exam.frames }, (_, frame) => low + step * arrays[name][frame * nCurves + index]);
  }

  const SVG = "http://www.w3.org/2000/svg";
  function drawn(parent, kind, attributes, text) {
    const node = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(attributes)) { node.setAttribute(name, value); }
    if (text !== undefined) { node.textContent = text; }
    parent.append(node);
  }

  function drawChart() {
    const chart = element("chart");
    chart.replaceChildren();
    const [width, height, left, right, top, bottom] = [440, 250, 46, 8, 26, 34];
    const index = curveOf[place(state.column, state.row, state.slice)];
    const lines = [];
    if (index >= 0) {
      lines.push({ label: "tissue", kind: "tissue", values: curve("measured", index) });
      if (arrays.fitted) { lines.push({ label: "fit", kind: "fit", values: curve("fitted", index) }); }
    }
    const tallest = Math.max(...lines.flatMap((line) => line.values), 1e-9);
    if (exam.aif) {
      const gain = index >= 0 ? tallest / Math.max(...exam.aif) : 1;
      const label = index >= 0 ? `AIF × ${gain.toPrecision(2)}` : "AIF";
      lines.push({ label, kind: "aif", values: exam.aif.map((value) => value * gain) });
    }
    const all = lines.flatMap((line) => line.values);
    const [low, high] = [Math.min(0, ...all), Math.max(...all, 1e-9)];
    const end = (exam.frames - 1) * exam.frame_seconds;
    const x = (seconds) => left + (width - left - right) * seconds / end;
    const y = (value) => top + (height - top - bottom) * (high - value) / (high - low);
    if (exam.non_steady_frames) {
      drawn(chart, "rect", { class: "shade", x: x(0), y: top,
        width: x((exam.non_steady_frames - 0.5) * exam.frame_seconds) - x(0), height: height - top - bottom });
    }
    for (const value of ticks(low, high, 5)) {
      drawn(chart, "line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) });
      drawn(chart, "text", { class: "tick", x: left - 5, y: y(value) + 3, "text-anchor": "end" },
        String(Number(value.toPrecision(6))));
    }
    for (const value of ticks(0, end, 8)) {
      drawn(chart, "text", { class: "tick", x: x(value), y: height - bottom + 14, "text-anchor": "middle" }, String(value));
    }
    drawn(chart, "text", { class: "tick", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" },
      "time from the first frame [s]");
    drawn(chart, "line", { class: "frame", x1: x(state.frame * exam.frame_seconds),
      x2: x(state.frame * exam.frame_seconds), y1: top, y2: height - bottom });
    let at = left;
    for (const line of lines) {
      const points = line.values.map((value, frame) => `${x(frame * exam.frame_seconds).toFixed(1)},${y(value).toFixed(1)}`);
      drawn(chart, "polyline", { class: line.kind, points: points.join(" ") });
      if (line.kind === "tissue") {
        for (const point of points) {
          const [cx, cy] = point.split(",");
          drawn(chart, "circle", { class: "tissue", cx, cy, r: 1.8 });
        }
      }
      drawn(chart, "line", { class: line.kind, x1: at, x2: at + 16, y1: 12, y2: 12 });
      drawn(chart, "text", { class: "legend", x: at + 20, y: 16 }, line.label);
      at += 36 + 7 * line.label.length;
    }
    drawn(chart, "text", { class: "legend", x: width - right, y: 16, "text-anchor": "end" }, exam.curve_text);
    if (index < 0) {
      drawn(chart, "text", { class: "legend", x: (left + width) / 2, y: 60, "text-anchor": "middle" },
        "this voxel is outside the tissue");
    }
  }

  function ticks(low, high, most) {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }

  // ---------------------------------------------------------------------------------------- text and controls

  function applied(matrix) {
    const voxel = [state.column, state.row, state.slice, 1];
    return matrix.slice(0, 3).map((line) => line.reduce((sum, value, i) => sum + value * voxel[i], 0));
  }

  function drawText() {
    element("slice-text").textContent = `slice ${state.slice + 1} of ${slices}`;
    element("slice").value = state.slice;
    element("frame").value = state.frame;
    const [x, y, z] = applied(exam.to_mm).map((value) => value.toFixed(1));
    const file = applied(exam.to_file).map((value) => Math.round(value)).join(", ");
    element("voxel").textContent = `voxel ${file} of the file · ${x}, ${y}, ${z} mm (right, front, up)`;
  }

  function draw() {
    panes.forEach(drawMap);
    drawFilm();
    drawChart();
    drawText();
  }

  const clipped = (value, count) => Math.min(count - 1, Math.max(0, value));
  function moveSlice(by) { state.slice = clipped(state.slice + by, slices); draw(); }
  function moveFrame(by) { state.frame = clipped(state.frame + by, exam.frames); drawFilm(); drawChart(); drawText(); }
  function moveVoxel(byColumn, byRow) {
    state.column = clipped(state.column + byColumn, columns);
    state.row = clipped(state.row + byRow, rows);
    draw();
  }
  function toggleFilm() {
    if (state.timer) { clearInterval(state.timer); state.timer = null; } else {
      state.timer = setInterval(() => {
        state.frame = (state.frame + 1) % exam.frames;
        drawFilm();
        drawChart();
        drawText();
      }, 120);
    }
    element("play").textContent = state.timer ? "Stop" : "Play";
  }

  for (const canvas of canvases) {
    let turned = 0; // of a wheel or a touch pad, pixels
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      turned += event.deltaMode === 0 ? event.deltaY : 40 * event.deltaY;
      const by = Math.trunc(turned / 40);
      if (by) { turned = 0; moveSlice(Math.sign(by)); }
    }, { passive: false });
    const choose = (event) => {
      const box = canvas.getBoundingClientRect();
      state.column = clipped(Math.floor((event.clientX - box.left) / box.width * columns), columns);
      state.row = clipped(Math.floor((event.clientY - box.top) / box.height * rows), rows);
      draw();
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) { return; }
      root.focus({ preventScroll: true });
      choose(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons === 1 && event.pointerType === "mouse") { choose(event); }
    });
  }

  const KEYS = {
    ArrowUp: () => moveSlice(1), ArrowDown: () => moveSlice(-1),
    ArrowRight: () => moveFrame(1), ArrowLeft: () => moveFrame(-1),
    "Shift+ArrowUp": () => moveVoxel(0, -1), "Shift+ArrowDown": () => moveVoxel(0, 1),
    "Shift+ArrowRight": () => moveVoxel(1, 0), "Shift+ArrowLeft": () => moveVoxel(-1, 0),
    " ": toggleFilm, o: () => element("overlay").click(), a: () => element("arteries").click(),
  };
  root.addEventListener("keydown", (event) => {
    if (event.target !== root || event.ctrlKey || event.altKey || event.metaKey) { return; }
    const action = KEYS[(event.shiftKey ? "Shift+" : "") + event.key];
    if (action) { event.preventDefault(); action(); }
  });

  element("slice").addEventListener("input", (event) => { state.slice = Number(event.target.value); draw(); });
  element("frame").addEventListener("input", (event) => { state.frame = Number(event.target.value); moveFrame(0); });
  element("play").addEventListener("click", toggleFilm);
  element("palette").addEventListener("change", (event) => { state.palette = event.target.value; draw(); });
  element("overlay").addEventListener("change", (event) => { state.overlay = event.target.checked; draw(); });
  element("arteries").addEventListener("change", (event) => { state.arteries = event.target.checked; draw(); });
  element("threshold").addEventListener("change", (event) => { state.threshold = Number(event.target.value); draw(); });
  element("opacity").addEventListener("input", (event) => { state.opacity = Number(event.target.value) / 100; draw(); });
  element("windows").addEventListener("click", () => {
    for (const pane of root.querySelectorAll("[data-map]")) {
      const map = exam.maps[Number(pane.dataset.map)];
      map.window = [...map.usual];
      [...pane.querySelectorAll("input")].forEach((input, end) => { input.value = map.usual[end]; });
    }
    draw();
  });
  new ResizeObserver(draw).observe(root);
  root.classList.add("ready");
  root.focus({ preventScroll: true });
  draw();
})();
