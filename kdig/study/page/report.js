"use strict";
// The ledger's filter, kept in the address: #q=latency&verdict=contradicted&section=...&sort=...
// Any other hash names a part of the page, which is opened and scrolled to.
const form = document.getElementById("filter");
const fields = form.elements;
const buttons = [...form.querySelectorAll("button")];
const sorted = document.getElementById("sorted");
const claims = [...document.querySelectorAll(".claim")];
const order = buttons.map((button) => button.dataset.verdict);

const groups = [...document.querySelectorAll(".group")].map((element) => ({
  element,
  wasOpen: element.open,
  findings: [...element.querySelectorAll(".finding")].map((finding) => ({
    element: finding,
    verdict: finding.dataset.verdict,
    says: `${finding.querySelector(".says").textContent} ${finding.dataset.verdict}`.toLowerCase(),
    claims: [...finding.querySelectorAll(".claim")].map((claim) => ({
      element: claim,
      section: claim.dataset.section,
      distance: Number(claim.dataset.distance),
      text: `${claim.id} ${claim.querySelector(".says").textContent}
        ${claim.lastElementChild.lastElementChild.textContent}
        ${claim.dataset.section} ${claim.dataset.words}`.toLowerCase(),
    })),
  })),
}));
const findings = groups.flatMap((group) => group.findings);

function state() {
  const pressed = buttons.find((button) => button.getAttribute("aria-pressed") === "true");
  const pairs = {
    q: fields.q.value.trim(),
    verdict: pressed ? pressed.dataset.verdict : "",
    section: fields.section.value,
    sort: fields.sort.value,
  };
  return Object.fromEntries(Object.entries(pairs).filter(([, value]) => value));
}

function setState(given) {
  for (const name of ["q", "section", "sort"]) fields[name].value = given.get(name) || "";
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === given.get("verdict")));
  }
}

function matches(finding, claim, asked) {
  const words = (asked.q || "").toLowerCase().replace(/&/g, " & ").split(/\s+/);
  const text = `${finding.says} ${claim.text}`;
  return words.every((word) => text.includes(word))
    && (!asked.section || claim.section === asked.section);
}

// each finding stays with the claims that match; returns how many of both are left
function narrow(asked) {
  const left = { findings: 0, claims: 0 };
  for (const finding of findings) {
    let kept = 0;
    const wanted = !asked.verdict || finding.verdict === asked.verdict;
    for (const claim of finding.claims) {
      claim.element.hidden = !(wanted && matches(finding, claim, asked));
      kept += claim.element.hidden ? 0 : 1;
    }
    finding.element.hidden = kept === 0;
    left.claims += kept;
    left.findings += kept ? 1 : 0;
  }
  return left;
}

function place(sort) {
  for (const group of groups) group.element.append(...group.findings.map((f) => f.element));
  if (!sort) return;
  const farthest = (finding) => Math.max(...finding.claims.map((claim) => claim.distance));
  const by = {
    verdict: (a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict),
    distance: (a, b) => farthest(b) - farthest(a),
  };
  sorted.append(...[...findings].sort(by[sort]).map((finding) => finding.element));
}

function show() {
  const asked = state();
  const filtered = Boolean(asked.q || asked.verdict || asked.section);
  const left = narrow(asked);
  place(asked.sort);
  for (const group of groups) {
    group.element.hidden = Boolean(asked.sort) || group.findings.every((f) => f.element.hidden);
    group.element.open = filtered || group.wasOpen;
  }
  for (const finding of findings) finding.element.open = filtered && left.claims <= 40;
  document.getElementById("shown").textContent =
    `Shown: ${counted(left.findings, "finding")} with ${counted(left.claims, "claim")}.`;
}

function counted(count, thing) {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}

function changed() {
  show();
  const text = new URLSearchParams(state()).toString();
  history.replaceState(null, "", text ? `#${text}` : "#ledger");
}

function reach(id) {
  const target = document.getElementById(id);
  if (!target) return;
  if (target.matches(".finding, .claim")) { setState(new Map()); show(); }
  for (let at = target; at; at = at.parentElement) if (at.matches("details")) at.open = true;
  document.querySelectorAll(".at").forEach((element) => element.classList.remove("at"));
  if (!target.matches("h2")) target.classList.add("at");
  target.scrollIntoView();
}

function follow() {
  const hash = decodeURIComponent(location.hash.slice(1));
  if (hash.includes("=")) {
    setState(new URLSearchParams(location.hash.slice(1)));
    show();
    document.getElementById("ledger").scrollIntoView();
  } else if (hash) reach(hash);
}

// an opened claim shows its figure, from the one copy in the page
function picture(claim) {
  const place = claim.querySelector("[data-shows]");
  const figure = place && document.querySelector(`[id="figure-${place.dataset.shows}"] img`);
  if (!figure || place.querySelector("img")) return;
  const copy = new Image();
  copy.alt = figure.alt;
  copy.src = figure.src;
  place.prepend(copy);
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") === "false";
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(on && other === button)));
    changed();
  });
}
form.addEventListener("input", changed);
for (const claim of claims) claim.addEventListener("toggle", () => claim.open && picture(claim));
addEventListener("hashchange", follow);
// on paper every finding stands, those of abstract and conclusions with their claims
let unfolded = [];
addEventListener("beforeprint", () => {
  const central = groups.slice(0, 2).flatMap((group) => group.findings);
  const wanted = [...groups, ...central].map((part) => part.element);
  unfolded = wanted.filter((element) => !element.open);
  for (const element of unfolded) element.open = true;
});
addEventListener("afterprint", () => { for (const element of unfolded) element.open = false; });
follow();
