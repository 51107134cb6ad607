// Filters, sorts and pages the cards of the error browser, and hides layers of the drawings.
// Without it the page shows all cards, the worst first.
"use strict";
(() => {
  const PAGE = 24;
  const cards = document.getElementById("cards");
  const form = document.getElementById("controls");
  if (!cards || !form) return;

  const all = Array.from(cards.children);
  const told = document.getElementById("told");
  const more = document.createElement("button");
  more.type = "button";
  more.id = "more";
  cards.after(more);
  let shown = PAGE;

  // How often a card has a fault of this kind.
  const times = (card, kind) => {
    const part = card.dataset.kinds.split("|").find((one) => one.startsWith(kind + "="));
    return part ? Number(part.slice(kind.length + 1)) : 0;
  };

  const orders = {
    rank: (a, b) => a.dataset.rank - b.dataset.rank,
    best: (a, b) => b.dataset.rank - a.dataset.rank,
    place: (a, b) => a.dataset.place - b.dataset.place,
  };

  function update() {
    const kind = form.elements.kind.value;
    const name = form.elements.id.value.trim().toLowerCase();
    const fits = (card) => (!kind || times(card, kind) > 0) && card.dataset.id.toLowerCase().includes(name);
    const chosen = all.filter(fits);
    const order = form.elements.order.value;
    chosen.sort(orders[order]);
    if (kind && order === "rank") chosen.sort((a, b) => times(b, kind) - times(a, kind));
    cards.replaceChildren(...chosen.slice(0, shown));
    const left = chosen.length - Math.min(shown, chosen.length);
    told.textContent = `${chosen.length - left} of ${chosen.length} examples`;
    more.textContent = `Show ${Math.min(PAGE, left)} more`;
    more.hidden = left === 0;
  }

  form.addEventListener("input", (event) => {
    const layer = event.target.dataset.layer;
    if (layer) {
      cards.classList.toggle(`without-${layer}`, !event.target.checked);
      return;
    }
    shown = PAGE;
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const first = cards.children.length;
    shown += PAGE;
    update();
    const card = cards.children[first];
    if (card) {
      card.tabIndex = -1;
      card.focus({ preventScroll: true });
    }
  });

  form.hidden = false;
  update();
})();
