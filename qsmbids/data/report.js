'use strict';
// The page works without this script; with it, the map can be looked through and texts are copied by a button.
(() => {
  const PLANES = [['axial', 2, 0, 1], ['coronal', 1, 0, 2], ['sagittal', 0, 1, 2]];
  const ENDS = [['L', 'R'], ['P', 'A'], ['I', 'S']];
  const WIDEST = 640;
  const viewers = {};

  async function unpack(text, count, bytes) {
    const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
    const plain = new Uint8Array(await new Response(stream).arrayBuffer());
    if (bytes === 1) return plain;
    const values = new Int16Array(count);
    for (let i = 0; i < count; i++) values[i] = plain[i] | plain[count + i] << 8;
    return values;
  }

  function apply(matrix, place) {
    return matrix.map(row => row[0] * place[0] + row[1] * place[1] + row[2] * place[2] + row[3]);
  }

  function inverse(m) {
    const cofactor = (i, j) => {
      const [a, b] = [0, 1, 2].filter(n => n !== i), [c, d] = [0, 1, 2].filter(n => n !== j);
      return (m[a][c] * m[b][d] - m[a][d] * m[b][c]) * ((i + j) % 2 ? -1 : 1);
    };
    const size = m[0][0] * cofactor(0, 0) + m[0][1] * cofactor(0, 1) + m[0][2] * cofactor(0, 2);
    const rows = [0, 1, 2].map(j => [0, 1, 2].map(i => cofactor(i, j) / size));
    return rows.map(row => [...row, -row.reduce((sum, value, i) => sum + value * m[i][3], 0)]);
  }

  class Viewer {
    constructor(root, content) {
      this.root = root;
      this.content = content;
      this.shape = content.shape;
      this.size = content.size;
      this.cross = this.shape.map(n => n >> 1);
      this.centre = [...this.cross];
      this.zoom = 1;
      this.map = 0;
      this.canvases = [...root.querySelectorAll('canvas')];
      this.sliders = [...root.querySelectorAll('[data-slice]')];
    }

    async load() {
      const count = this.shape[0] * this.shape[1] * this.shape[2];
      const {maps, masks, labels} = this.content;
      this.volumes = await Promise.all(maps.map(map => unpack(map.data, count, map.bytes)));
      this.masks = await unpack(masks.data, count, 1);
      this.labels = labels ? await unpack(labels.data, count, 1) : null;
      for (const part of [...maps, masks, labels ?? {}]) delete part.data;
      this.colours = new Map(Object.entries(labels?.names ?? {}).map(([index, [, colour]]) =>
        [Number(index), [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16))]));
      this.find('trouble').hidden = true;
      this.find('panel').hidden = false;
      this.lay();
      this.listen();
      this.choose(0);
      this.start();
    }

    find(name) { return this.root.querySelector(`[data-part="${name}"]`); }

    // The three planes share one scale: so many pixels for a mm.
    lay() {
      const widths = PLANES.map(([, , right]) => this.shape[right] * this.size[right]);
      this.find('planes').style.gridTemplateColumns = widths.map(width => `minmax(0, ${width}fr)`).join(' ');
      const scale = WIDEST / Math.max(...widths);
      this.canvases.forEach((canvas, n) => {
        canvas.width = Math.round(widths[n] * scale);
        canvas.height = Math.round(this.shape[PLANES[n][3]] * this.size[PLANES[n][3]] * scale);
      });
      this.sliders.forEach((slider, n) => { slider.max = this.shape[PLANES[n][1]] - 1; });
    }

    start() {
      const ours = this.labels ?? this.masks, sum = [0, 0, 0];
      let count = 0;
      for (let z = 0, i = 0; z < this.shape[2]; z++)
        for (let y = 0; y < this.shape[1]; y++)
          for (let x = 0; x < this.shape[0]; x++, i++)
            if (ours[i]) { sum[0] += x; sum[1] += y; sum[2] += z; count++; }
      this.go(count ? sum.map(value => value / count) : this.cross);
    }

    listen() {
      this.canvases.forEach((canvas, n) => {
        const point = event => {
          const box = canvas.getBoundingClientRect();
          this.point(n, (event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height);
        };
        canvas.addEventListener('pointerdown', event => {
          canvas.focus({preventScroll: true});
          canvas.setPointerCapture(event.pointerId);
          point(event);
        });
        canvas.addEventListener('pointermove', event => { if (event.buttons) point(event); });
        canvas.addEventListener('wheel', event => {
          if (document.activeElement !== canvas) return;  // else the page scrolls
          event.preventDefault();
          this.step(PLANES[n][1], event.deltaY > 0 ? -1 : 1);
        }, {passive: false});
        canvas.addEventListener('keydown', event => this.key(n, event));
      });
      this.sliders.forEach((slider, n) => slider.addEventListener('input', () => {
        const place = [...this.cross];
        place[PLANES[n][1]] = Number(slider.value);
        this.go(place);
      }));
      this.find('map').addEventListener('change', event => this.choose(Number(event.target.value)));
      for (const name of ['low', 'high', 'opacity']) this.find(name).addEventListener('input', () => this.draw());
      this.find('zoom').addEventListener('input', event => {
        this.zoom = Number(event.target.value);
        this.centre = [...this.cross];
        this.draw();
      });
      for (const box of this.root.querySelectorAll('input[type="checkbox"]'))
        box.addEventListener('change', () => this.draw());
      this.find('reset').addEventListener('click', () => {
        this.find('zoom').value = this.zoom = 1;
        this.choose(this.map);
        this.start();
      });
      this.find('place')?.addEventListener('change', event => this.visit(event.target.value));
    }

    key(n, event) {
      const [, across, right, up] = PLANES[n], far = event.shiftKey ? 10 : 1;
      const moves = {ArrowLeft: [right, -1], ArrowRight: [right, 1], ArrowDown: [up, -1], ArrowUp: [up, 1],
                     PageDown: [across, -1], PageUp: [across, 1]};
      if (event.key === 'Home') this.start();
      else if (event.key in moves) this.step(moves[event.key][0], far * moves[event.key][1]);
      else return;
      event.preventDefault();
    }

    step(axis, by) {
      const place = [...this.cross];
      place[axis] += by;
      this.go(place);
    }

    go(place) {
      this.cross = place.map((value, axis) => Math.min(Math.max(Math.round(value), 0), this.shape[axis] - 1));
      this.cross.forEach((value, axis) => {
        const reach = this.shape[axis] / this.zoom / 2;
        if (Math.abs(value - this.centre[axis]) > reach * 0.9) this.centre[axis] = value;
      });
      this.draw();
    }

    // 'region 3' or 'lesion 2', as the list of places has it.
    visit(name) {
      const [kind, index] = name.split(' ');
      if (kind === 'lesion') {
        const lesion = this.content.lesions.find(found => String(found.index) === index);
        if (lesion) this.go(lesion.place);
      } else if (kind === 'region') {
        const whole = this.labels, wanted = Number(index);
        this.labels = whole.map(label => label === wanted ? 1 : 0);
        this.start();
        this.labels = whole;
        this.draw();
      }
    }

    goTo(mm) { this.go(apply(inverse(this.content.mm), mm)); }

    choose(map) {
      this.map = map;
      const {limits, window} = this.content.maps[map];
      ['low', 'high'].forEach((name, end) => {
        const slider = this.find(name);
        [slider.min, slider.max] = limits;
        slider.step = (limits[1] - limits[0]) / 200;
        slider.value = window[end];
      });
      this.draw();
    }

    // What part of a plane is seen: first voxel and extent along its two axes.
    part(n) {
      return PLANES[n].slice(2).map(axis => {
        const extent = this.shape[axis] / this.zoom;
        const first = Math.min(Math.max(this.centre[axis] + 0.5 - extent / 2, 0), this.shape[axis] - extent);
        return [first, extent];
      });
    }

    point(n, x, y) {
      const [, , right, up] = PLANES[n], [[left, wide], [low, high]] = this.part(n);
      const place = [...this.cross];
      place[right] = left + x * wide - 0.5;
      place[up] = low + y * high - 0.5;
      this.go(place);
    }

    draw() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.canvases.forEach((canvas, n) => this.paint(canvas, n));
        this.sliders.forEach((slider, n) => { slider.value = this.cross[PLANES[n][1]]; });
        this.tell();
      });
    }

    shown(name) { return this.root.querySelector(`[data-overlay="${name}"]`)?.checked; }

    // Where voxel (a, b) of a plane is in the volume.
    index(n) {
      const [, across, right, up] = PLANES[n], steps = [1, this.shape[0], this.shape[0] * this.shape[1]];
      const start = this.cross[across] * steps[across];
      return (a, b) => start + a * steps[right] + b * steps[up];
    }

    paint(canvas, n) {
      const [, , right, up] = PLANES[n], [wide, high] = [this.shape[right], this.shape[up]];
      const [[left, seen], [low, tall]] = this.part(n), at = this.index(n);
      const map = this.content.maps[this.map], volume = this.volumes[this.map];
      const dark = Number(this.find('low').value), bright = Number(this.find('high').value);
      const scale = 255 * map.step / Math.max(bright - dark, map.step), shift = dark / map.step;
      const fill = this.labels && this.shown('labels') ? Number(this.find('opacity').value) : 0;
      const image = new ImageData(wide, high);
      for (let b = 0, i = 0; b < high; b++)
        for (let a = 0; a < wide; a++, i += 4) {
          const j = at(a, high - 1 - b), grey = (volume[j] - shift) * scale;
          const colour = fill ? this.colours.get(this.labels[j]) : undefined;
          for (let c = 0; c < 3; c++) image.data[i + c] = colour ? grey * (1 - fill) + colour[c] * fill : grey;
          image.data[i + 3] = 255;
        }
      this.sheet ??= document.createElement('canvas');
      [this.sheet.width, this.sheet.height] = [wide, high];
      this.sheet.getContext('2d').putImageData(image, 0, 0);
      const pen = canvas.getContext('2d');
      pen.imageSmoothingEnabled = false;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(this.sheet, left, high - low - tall, seen, tall, 0, 0, canvas.width, canvas.height);
      const x = a => (a - left) * canvas.width / seen, y = b => canvas.height - (b - low) * canvas.height / tall;
      this.content.masks.names.forEach(([, colour], bit) => {
        if (this.shown(`mask${bit}`))
          this.outline(pen, at, wide, high, x, y, j => this.masks[j] >> bit & 1, () => colour);
      });
      if (this.labels && this.shown('labels'))
        this.outline(pen, at, wide, high, x, y, j => this.labels[j],
                     index => `rgb(${this.colours.get(index) ?? '0,0,0'})`);
      if (this.shown('lesions')) this.circle(pen, n, x, y, canvas.width / seen / this.size[right]);
      if (this.shown('cross')) this.hair(pen, canvas, x(this.cross[right] + 0.5), y(this.cross[up] + 0.5));
      this.letter(pen, canvas, right, up);
    }

    // Lines between voxels of different values, in the colour of the larger one.
    outline(pen, at, wide, high, x, y, value, colour) {
      const paths = new Map();
      const line = (a, b, c, d, index) => {
        if (!paths.has(index)) paths.set(index, new Path2D());
        paths.get(index).moveTo(x(a), y(b));
        paths.get(index).lineTo(x(c), y(d));
      };
      for (let b = 0; b < high; b++)
        for (let a = 0; a < wide; a++) {
          const here = value(at(a, b));
          const right = a + 1 < wide ? value(at(a + 1, b)) : here, above = b + 1 < high ? value(at(a, b + 1)) : here;
          if (here !== right) line(a + 1, b, a + 1, b + 1, Math.max(here, right));
          if (here !== above) line(a, b + 1, a + 1, b + 1, Math.max(here, above));
        }
      pen.lineWidth = 1.5;
      for (const [index, path] of paths) {
        pen.strokeStyle = colour(index);
        pen.stroke(path);
      }
    }

    circle(pen, n, x, y, perMm) {
      const [, across, right, up] = PLANES[n];
      for (const {place, colour, radius} of this.content.lesions) {
        const off = Math.abs(place[across] - this.cross[across]) * this.size[across];
        if (off > radius) continue;
        pen.strokeStyle = colour;
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(x(place[right] + 0.5), y(place[up] + 0.5), radius * perMm, 0, 2 * Math.PI);
        pen.stroke();
      }
    }

    hair(pen, canvas, x, y) {
      pen.strokeStyle = '#f2a900';
      pen.lineWidth = 1;
      pen.beginPath();
      for (const [a, b, c, d] of [[0, y, x - 8, y], [x + 8, y, canvas.width, y], [x, 0, x, y - 8],
                                  [x, y + 8, x, canvas.height]]) {
        pen.moveTo(a, b);
        pen.lineTo(c, d);
      }
      pen.stroke();
    }

    letter(pen, canvas, right, up) {
      pen.font = `${Math.round(WIDEST / 28)}px system-ui, sans-serif`;
      pen.textBaseline = 'middle';
      const {width, height} = canvas, sides = [[ENDS[right][0], 'left', 5, height / 2],
        [ENDS[right][1], 'right', width - 5, height / 2], [ENDS[up][1], 'center', width / 2, 12],
        [ENDS[up][0], 'center', width / 2, height - 12]];
      for (const [text, align, x, y] of sides) {
        pen.textAlign = align;
        pen.lineWidth = 3;
        pen.strokeStyle = '#101317';
        pen.strokeText(text, x, y);
        pen.fillStyle = '#e8ecf1';
        pen.fillText(text, x, y);
      }
      pen.fillStyle = '#101317';
    }

    tell() {
      const {maps, mm, file, labels} = this.content;
      const j = this.cross[0] + this.shape[0] * (this.cross[1] + this.shape[1] * this.cross[2]);
      const places = apply(mm, this.cross).map(value => value.toFixed(1)).join(', ');
      const voxel = apply(file, this.cross).map(Math.round).join(', ');
      const values = maps.map((map, n) => `${map.name} ${(this.volumes[n][j] * map.step).toFixed(map.unit ? 3 : 0)}`
        + (map.unit ? ` ${map.unit}` : ''));
      const region = this.labels && labels.names[this.labels[j]];
      this.find('value').textContent = [...values, ...(region ? [region[0]] : []), `x, y, z ${places} mm`,
                                        `voxel ${voxel}`].join('  ·  ');
      const numbers = ['low', 'high'].map(name => Number(this.find(name).value));
      const unit = maps[this.map].unit;
      this.find('window').textContent = numbers.map(value => value.toFixed(unit ? 3 : 0)).join(' to ') + ` ${unit}`;
      this.find('window').classList.toggle('wrong', numbers[0] >= numbers[1]);
    }
  }

  function open(root) {
    const content = JSON.parse(document.getElementById(root.dataset.viewer).textContent);
    const viewer = new Viewer(root, content);
    viewers[root.id] = viewer;
    viewer.ready = viewer.load().catch(error => {
      viewer.find('trouble').textContent = 'This browser cannot show the volumes: ' + error;
    });
  }

  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      open(entry.target);
    }
  }, {rootMargin: '600px'});
  document.querySelectorAll('[data-viewer]').forEach(root => watcher.observe(root));

  async function show(button) {
    const root = document.getElementById(button.dataset.show);
    if (!viewers[root.id]) { watcher.unobserve(root); open(root); }
    await viewers[root.id].ready;
    viewers[root.id].goTo(JSON.parse(button.dataset.place));
    root.scrollIntoView();
    root.querySelector('canvas').focus({preventScroll: true});
  }

  async function copy(button) {
    const text = document.getElementById(button.dataset.copy).innerText;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.body.appendChild(document.createElement('textarea'));
      area.value = text;
      area.select();
      done = document.execCommand('copy');  // where the clipboard is not open to files
      area.remove();
      button.focus();
    }
    button.nextElementSibling.textContent = done ? 'Copied.' : 'It cannot be copied here; select the text instead.';
  }

  for (const button of document.querySelectorAll('[data-show]')) {
    button.hidden = false;
    button.addEventListener('click', () => show(button));
  }
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.hidden = false;
    button.addEventListener('click', () => copy(button));
  }
})();
