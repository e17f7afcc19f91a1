'use strict';
// All that comes from files gets into the page as text or as numbers, never as HTML.
(() => {
  const content = JSON.parse(document.getElementById('content').textContent);
  const {rows, groups, numbers, categories, lesions} = content;
  const SVG = 'http://www.w3.org/2000/svg';
  const COLOURS = ['#0b5c8a', '#b3541e', '#1b6b3a', '#8a3b8f', '#7a5200', '#9c1f24', '#3f6f73', '#5a4fcf', '#6b6b00',
                   '#a83a72', '#2f4858', '#566373'];
  const FAR = 3.5, LEAST = 8;
  const $ = id => document.getElementById(id);
  const quality = groups[0].columns;
  let shown = rows.map((_, i) => i);

  function make(name, attributes = {}, ...children) {
    const svg = /^(svg|path|circle|line|text|g|a:svg|title|rect)$/.test(name);
    const node = svg ? document.createElementNS(SVG, name.split(':')[0]) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  const name = i => rows[i].acquisition !== 'n/a' ? rows[i].acquisition : rows[i].participant;
  const digits = value => value === null ? 'n/a' : String(Number(value.toPrecision(4)));
  const values = (column, which) => which.map(i => column.values[i]).filter(value => value !== null);

  function quantile(sorted, share) {
    const at = share * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  }

  // Which of some acquisitions lie far from the others (Iglewicz and Hoaglin 1993).
  function outliers(column, which) {
    const sorted = values(column, which).sort((a, b) => a - b);
    if (sorted.length < LEAST) return [];
    const median = quantile(sorted, 0.5);
    const spread = 1.4826 * quantile(sorted.map(value => Math.abs(value - median)).sort((a, b) => a - b), 0.5);
    const far = value => value !== null && Math.abs(value - median) > FAR * spread;
    return spread ? which.filter(i => far(column.values[i])) : [];
  }

  // Columns of the table: heading, explanation, value of an acquisition, whether it is a number.
  const standing = rows.map(() => []);
  for (const column of quality) for (const i of outliers(column, shown)) standing[i].push(column.name);
  const columns = [
    ['Acquisition', 'Name, and link to its page', name, false],
    ['State', 'Of the newest run', i => rows[i].state, false],
    ['Stand out', 'How many quality values lie far from the others', i => standing[i].length, true],
    ['Scanner', 'Vendor, model, field strength', i => rows[i].scanner, false],
    ...Object.keys(rows.find(row => Object.keys(row.people).length)?.people ?? {}).map(key => {
      const column = numbers.find(found => found.name === key);
      const value = i => column ? column.values[i] : rows[i].people[key] ?? 'n/a';
      return [key, 'Of participants.tsv', value, Boolean(column)];
    }),
    ...quality.map(column => [column.name, column.label, i => column.values[i], true]),
    ['Reason', 'Why it is not complete', i => rows[i].reason === 'n/a' ? '' : rows[i].reason, false]];
  let order = {column: 2, up: false};

  function sortRows() {
    const value = columns[order.column][2], sign = order.up ? 1 : -1;
    // What has no value is last, whatever the order.
    shown.sort((i, j) => {
      const [a, b] = [value(i), value(j)];
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      const way = typeof a === 'number' ? a - b : String(a).localeCompare(String(b), 'en', {numeric: true});
      return sign * way || i - j;
    });
  }

  function drawHead() {
    const head = $('rows').tHead.rows[0];
    head.replaceChildren(...columns.map(([title, label, , number], n) => {
      const button = make('button', {type: 'button', title: label}, title);
      button.addEventListener('click', () => {
        order = {column: n, up: order.column === n ? !order.up : !number};
        drawHead();
        drawRows();
        $('rows').tHead.rows[0].cells[n].firstChild.focus();
      });
      const cell = make('th', {scope: 'col', class: number ? 'number' : ''}, button);
      if (order.column === n) cell.setAttribute('aria-sort', order.up ? 'ascending' : 'descending');
      return cell;
    }));
  }

  function drawRows() {
    sortRows();
    const body = document.createDocumentFragment();
    for (const i of shown) {
      const row = make('tr');
      columns.forEach(([title, , value, number], n) => {
        const found = value(i);
        if (n === 0) {
          const link = rows[i].page ? make('a', {href: rows[i].page}, found) : found;
          row.append(make('th', {scope: 'row', class: 'key'}, link));
        } else {
          const far = standing[i].includes(title);
          const cell = make('td', {class: number ? 'number' : 'key'}, number ? digits(found) : found);
          if (far) cell.classList.add('far');
          if (n === 2 && found) cell.title = standing[i].join(', ');
          row.append(cell);
        }
      });
      body.append(row);
    }
    $('rows').tBodies[0].replaceChildren(body);
    $('count').textContent = `${shown.length} of ${rows.length}`;
  }

  function filter() {
    const words = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean), state = $('state').value;
    shown = rows.map((_, i) => i).filter(i => (!state || rows[i].state === state) && words.every(word =>
      [name(i), rows[i].state, rows[i].scanner, rows[i].reason, ...Object.values(rows[i].people)]
        .some(text => text.toLowerCase().includes(word))));
    drawRows();
    drawStrips();
    drawScatter();
    drawHeat();
  }

  // Ticks at round numbers.
  function ticks(low, high, most = 6) {
    const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough);
    const found = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(tick);
    return found;
  }

  function levels(category) {
    const kinds = categories.find(found => found.name === category);
    if (!kinds) return [['', shown]];
    return [...new Set(kinds.values)].sort().map(level => [level, shown.filter(i => kinds.values[i] === level)]);
  }

  // Dots of equal value stay apart, and each at its place whenever it is drawn.
  const jitter = i => ((i * 2654435761 % 4294967296) / 4294967296 - 0.5);

  function link(i, node) {
    if (!rows[i].page) return node;
    return make('a:svg', {href: rows[i].page}, node);
  }

  function strip(column) {
    const found = levels($('by').value).filter(([, which]) => values(column, which).length);
    const height = 26 * found.length + 24, left = found.length > 1 ? 190 : 12, width = 760;
    const all = values(column, shown);
    const low = Math.min(...all), high = Math.max(...all), span = high - low || Math.abs(high) || 1;
    const x = value => left + (value - low) / span * (width - left - 20);
    const svg = make('svg', {viewBox: `0 0 ${width} ${height}`, class: 'strip', role: 'group',
                             'aria-label': `${column.name} of ${all.length} acquisitions`});
    const places = [];
    found.forEach(([level, which], n) => {
      const middle = 26 * n + 15, known = which.filter(i => column.values[i] !== null);
      const far = new Set(outliers(column, which)), sorted = values(column, which).sort((a, b) => a - b);
      if (found.length > 1)
        svg.append(make('text', {x: left - 10, y: middle + 4, 'text-anchor': 'end'}, level.slice(0, 26)));
      if (sorted.length > 3) {
        const [first, half, third] = [0.25, 0.5, 0.75].map(share => x(quantile(sorted, share)));
        const wide = Math.max(third - first, 1);
        svg.append(make('rect', {x: first, y: middle - 10, width: wide, height: 20, class: 'box'}),
                   make('line', {x1: half, x2: half, y1: middle - 10, y2: middle + 10, class: 'median'}));
      }
      let dots = '';
      for (const i of known) {
        const at = [x(column.values[i]), middle + 16 * jitter(i)];
        places.push([...at, i]);
        if (!far.has(i)) dots += `M${at[0].toFixed(1)} ${at[1].toFixed(1)}h0`;
      }
      svg.append(make('path', {d: dots, class: 'dots', stroke: COLOURS[n % COLOURS.length]}));
      for (const i of far) {
        const text = `${name(i)}: ${digits(column.values[i])}`;
        svg.append(link(i, make('circle', {cx: x(column.values[i]), cy: middle + 16 * jitter(i), r: 4.5, class: 'far',
          stroke: COLOURS[n % COLOURS.length]}, make('title', {}, text))));
      }
    });
    for (const tick of ticks(low, low + span))
      svg.append(make('text', {x: x(tick), y: height - 3, 'text-anchor': 'middle', class: 'tick'}, digits(tick)));
    watch(svg, places, i => `${name(i)}: ${column.name} ${digits(column.values[i])}`);
    return make('div', {class: 'stripe'}, make('div', {title: column.label}, make('b', {}, column.name),
      make('span', {class: 'do'}, column.label)), svg);
  }

  function watch(svg, places, text) {
    const nearest = event => {
      const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
      const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      let best = null, least = 15 ** 2;
      for (const [a, b, i] of places) {
        const distance = (a - x) ** 2 + (b - y) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
      return best;
    };
    svg.addEventListener('pointermove', event => {
      const i = nearest(event);
      svg.style.cursor = i !== null && rows[i].page ? 'pointer' : '';
      if (i !== null) $('nearest').textContent = text(i);
    });
    svg.addEventListener('click', event => {
      const i = nearest(event);
      if (i !== null && rows[i].page && !event.target.closest('a')) location.href = rows[i].page;
    });
  }

  function drawStrips() {
    const group = groups[Number($('group').value)];
    $('strips').replaceChildren(...group.columns.filter(column => values(column, shown).length).map(strip));
  }

  function pick(id) {
    const [kind, at, n] = $(id).value.split(' ');
    return kind === 'number' ? numbers[Number(at)] : groups[Number(at)].columns[Number(n)];
  }

  function fitLine(points) {
    const mean = k => points.reduce((sum, point) => sum + point[k], 0) / points.length;
    const [x, y] = [mean(0), mean(1)];
    const along = points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
    const slope = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0) / along;
    return along ? {slope, start: y - slope * x} : null;
  }

  function drawScatter() {
    const [across, up] = [pick('x'), pick('y')], width = 760, height = 420, edge = [64, 20, 14, 44];
    const known = shown.filter(i => across?.values[i] != null && up?.values[i] != null);
    $('lines').replaceChildren();
    if (!known.length) {
      $('scatter').replaceChildren(make('p', {}, 'No acquisition has both values.'));
      return;
    }
    const reach = column => {
      const all = values(column, known), low = Math.min(...all), high = Math.max(...all);
      return [low, high > low ? high : low + (Math.abs(low) || 1)];
    };
    const [[left, right], [low, high]] = [reach(across), reach(up)];
    const x = value => edge[0] + (value - left) / (right - left) * (width - edge[0] - edge[1]);
    const y = value => height - edge[3] - (value - low) / (high - low) * (height - edge[2] - edge[3]);
    const svg = make('svg', {viewBox: `0 0 ${width} ${height}`, class: 'strip scatter', role: 'group',
                             'aria-label': `${up.name} against ${across.name} of ${known.length} acquisitions`});
    for (const tick of ticks(left, right))
      svg.append(make('line', {x1: x(tick), x2: x(tick), y1: edge[2], y2: height - edge[3], class: 'grid'}),
                 make('text', {x: x(tick), y: height - 26, 'text-anchor': 'middle', class: 'tick'}, digits(tick)));
    for (const tick of ticks(low, high))
      svg.append(make('line', {x1: edge[0], x2: width - edge[1], y1: y(tick), y2: y(tick), class: 'grid'}),
                 make('text', {x: edge[0] - 6, y: y(tick) + 4, 'text-anchor': 'end', class: 'tick'}, digits(tick)));
    svg.append(make('text', {x: width / 2, y: height - 6, 'text-anchor': 'middle'}, across.name),
               make('text', {x: 2, y: 11}, up.name));
    const kinds = categories.find(found => found.name === $('colour').value);
    const parts = kinds ? [...new Set(known.map(i => kinds.values[i]))].sort() : [''];
    const places = [];
    parts.forEach((part, n) => {
      const which = known.filter(i => !kinds || kinds.values[i] === part), colour = COLOURS[n % COLOURS.length];
      const points = which.map(i => [across.values[i], up.values[i]]);
      svg.append(make('path', {d: points.map(([a, b]) => `M${x(a).toFixed(1)} ${y(b).toFixed(1)}h0`).join(''),
                               class: 'dots', stroke: colour}));
      which.forEach((i, k) => places.push([x(points[k][0]), y(points[k][1]), i]));
      const line = points.length >= 5 ? fitLine(points) : null;
      const ends = [Math.min(...points.map(point => point[0])), Math.max(...points.map(point => point[0]))];
      if (line) svg.append(make('path', {class: 'line', stroke: colour, d: 'M' + ends.map(end =>
        `${x(end).toFixed(1)} ${y(line.start + line.slope * end).toFixed(1)}`).join('L')}));
      const chip = make('span', {class: 'chip'});
      chip.style.background = colour;
      $('lines').append(make('span', {class: 'entry'}, chip, ` ${part || 'all'}: ${points.length}`
        + (line ? `, slope ${digits(line.slope)} per ${across.name}` : '')), ' ');
    });
    const value = (column, i) => `${column.name} ${digits(column.values[i])}`;
    watch(svg, places, i => `${name(i)}: ${value(across, i)}, ${value(up, i)}`);
    $('scatter').replaceChildren(svg);
  }

  const PLANES = [['Axial', 0, 1], ['Coronal', 0, 2], ['Sagittal', 1, 2]];

  function drawHeat() {
    if (!$('heat')) return;
    const kind = Number($('kind').value), definite = $('definite').checked, allowed = new Set(shown);
    const wanted = point => point[4] === kind && (point[5] || !definite) && allowed.has(point[0]);
    const points = lesions.points.filter(wanted);
    const scans = new Set(points.map(point => point[0])).size;
    $('burden').textContent = `${points.length} in ${scans} of ${lesions.scans} scans that were searched`;
    const size = lesions.size.length ? lesions.size : [140, 170, 130], margin = 0.06;
    $('heat').replaceChildren(...PLANES.map(([title, right, up]) => {
      const wide = 300, high = Math.round(wide * size[up] / size[right]);
      const canvas = make('canvas', {width: wide, height: high, role: 'img',
                                     'aria-label': `${title}: ${points.length} places in the brain`});
      const at = point => [(margin + point[right + 1] * (1 - 2 * margin)) * wide,
                           (1 - margin - point[up + 1] * (1 - 2 * margin)) * high];
      paintHeat(canvas, points.map(at), lesions.outlines[title.toLowerCase()] ?? [], margin);
      return make('div', {}, canvas, make('span', {}, title));
    }));
  }

  // A sum of Gaussians, from dark through red to yellow; each place as a dot on top.
  function paintHeat(canvas, places, outline, margin) {
    const {width, height} = canvas, pen = canvas.getContext('2d'), sigma = width / 28, reach = Math.ceil(3 * sigma);
    const heat = new Float32Array(width * height), image = pen.createImageData(width, height);
    const bell = Float32Array.from({length: 2 * reach + 1}, (_, n) => Math.exp(-((n - reach) ** 2) / (2 * sigma ** 2)));
    for (const [x, y] of places) {
      const [left, low] = [Math.round(x) - reach, Math.round(y) - reach];
      for (let b = Math.max(0, low); b <= Math.min(height - 1, low + 2 * reach); b++)
        for (let a = Math.max(0, left), row = b * width; a <= Math.min(width - 1, left + 2 * reach); a++)
          heat[row + a] += bell[b - low] * bell[a - left];
    }
    const top = heat.reduce((most, value) => Math.max(most, value), 1);
    heat.forEach((value, n) => {
      const share = Math.sqrt(value / top);
      image.data.set([16 + 239 * Math.min(1, 1.6 * share), 19 + 200 * Math.max(0, 1.8 * share - 0.8), 23, 255], 4 * n);
    });
    pen.putImageData(image, 0, 0);
    pen.strokeStyle = '#e8ecf1';
    pen.beginPath();
    const inner = 1 - 2 * margin;
    outline.forEach(([x, y]) => pen.lineTo((margin + x * inner) * width, (1 - margin - y * inner) * height));
    pen.closePath();
    pen.stroke();
    pen.fillStyle = '#e8ecf1';
    for (const [x, y] of places) pen.fillRect(x - 1, y - 1, 2, 2);
    pen.font = '13px system-ui, sans-serif';
    for (const [text, x, y] of canvas.getAttribute('aria-label').startsWith('Sagittal')
      ? [['P', 3, height / 2], ['A', width - 12, height / 2]] : [['L', 3, height / 2], ['R', width - 12, height / 2]])
      pen.fillText(text, x, y);
  }

  function fill(id, options) {
    for (const [value, text] of options) $(id).append(make('option', {value}, text));
  }

  function fillColumns(id, chosen) {
    const found = [['Participants', numbers.map((column, n) => [`number ${n}`, column.name])],
      ...groups.map((group, at) => [group.name, group.columns.map((column, n) => [`column ${at} ${n}`, column.name])])];
    for (const [label, options] of found) {
      if (!options.length) continue;
      const part = make('optgroup', {label});
      part.append(...options.map(([value, text]) => make('option', {value}, text)));
      $(id).append(part);
    }
    const options = [...$(id).options];
    const option = chosen.map(pattern => options.find(one => pattern.test(one.textContent))).find(Boolean);
    if (option) $(id).value = option.value;
  }

  fill('state', [...new Set(rows.map(row => row.state))].sort().map(state => [state, state]));
  fill('group', groups.map((group, n) => [n, `${group.name} (${group.columns.length})`]));
  for (const id of ['by', 'colour']) fill(id, categories.map(({name: text}) => [text, text]));
  if (categories.some(found => found.name === 'scanner')) $('colour').value = 'scanner';
  fillColumns('x', [/^age/i, /^brain_volume/]);
  fillColumns('y', [/^chi_mean_Putamen_L$/, /^chi_.*_sd_ppm$/]);
  $('trouble').hidden = true;
  $('interactive').hidden = false;
  drawHead();
  filter();
  $('filter').addEventListener('input', filter);
  $('state').addEventListener('change', filter);
  for (const id of ['group', 'by']) $(id).addEventListener('change', drawStrips);
  for (const id of ['x', 'y', 'colour']) $(id).addEventListener('change', drawScatter);
  for (const id of ['kind', 'definite']) $(id)?.addEventListener('change', drawHeat);
})();
