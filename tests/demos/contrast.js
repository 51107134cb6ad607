// Returns the texts on the page whose contrast falls short of WCAG 2's level AA, by its own formulas.
() => {
  const parse = s => { const m = s.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const lum = c => { const f = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
    return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]); };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = e => { const stack = []; for (let n = e; n; n = n.parentElement) stack.push(parse(getComputedStyle(n).backgroundColor));
    return stack.reverse().reduce((below, c) => over(c, below), [255, 255, 255, 1]); };
  const bad = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!walker.currentNode.textContent.trim() || !box.width || !box.height || style.visibility === 'hidden' || !e.checkVisibility({opacityProperty: true})) continue;
    if (e.closest('[disabled]') || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName)) continue;
    const back = ground(e), ink = over(parse(style.color), back), a = lum(ink), b = lum(back);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.set(e.tagName + '.' + e.className + ': ' + walker.currentNode.textContent.trim().slice(0, 40), ratio.toFixed(2));
  }
  return [...bad].map(([k, v]) => v + ' ' + k);
}
