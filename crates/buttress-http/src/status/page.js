// Refreshes the numbers in place. Buttons and inputs are never replaced, so that no click and no typing is lost.
"use strict";

const PERIOD = 2000;
const fresh = document.getElementById("fresh");
const said = document.getElementById("said");
const shown = document.getElementById("shown");
let held = false;

const byId = (parent, tag) =>
  new Map([...parent.querySelectorAll(tag + "[data-id]")].map((one) => [one.dataset.id, one]));
const headings = (section) => section.querySelector("thead").textContent;
// Whether a person is using an element now.
const inUse = (element) => held || element.contains(document.activeElement);

function refreshRow(old, now) {
  const olds = old.querySelectorAll("td:not(.act)");
  const news = now.querySelectorAll("td:not(.act)");
  if (olds.length !== news.length) {
    if (!inUse(old)) old.replaceWith(now);
    return;
  }
  olds.forEach((cell, at) => {
    const other = news[at];
    if (cell.textContent !== other.textContent) cell.textContent = other.textContent;
    if (other.dataset.is !== undefined) cell.dataset.is = other.dataset.is;
    cell.className = other.className;
  });
}

function refreshAll(old, now, tag, refreshOne) {
  const olds = byId(old, tag);
  for (const [id, fromNow] of byId(now, tag)) {
    const known = olds.get(id);
    if (known) refreshOne(known, fromNow);
    else (old.querySelector("tbody") || old).append(fromNow);
    olds.delete(id);
  }
  for (const gone of olds.values()) if (!inUse(gone)) gone.remove();
}

function refreshSection(old, now) {
  if (headings(old) === headings(now)) refreshAll(old, now, "tr", refreshRow);
  else if (!inUse(old)) old.replaceWith(now);
}

async function refresh() {
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    if (!answer.ok) throw new Error("status " + answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    refreshAll(document.querySelector("main"), page.querySelector("main"), "section", refreshSection);
    fresh.textContent = "Numbers of " + new Date().toLocaleTimeString();
    fresh.className = "";
  } catch (error) {
    fresh.className = "bad";
    fresh.textContent = "No new numbers: " + error.message;
  }
}

async function act(form) {
  const { section, name, action, confirm: question } = form.dataset;
  if (question && !window.confirm(question)) return;
  const input = form.querySelector("input");
  const value = input ? input.value : "";
  said.className = "";
  said.textContent = "…";
  try {
    const answer = await fetch(location.pathname, {
      method: "POST",
      headers: { "content-type": "application/json", "x-buttress-action": "1" },
      body: JSON.stringify({ section, name, action, value }),
    });
    const { done, error, shown: found } = await answer.json();
    said.className = answer.ok ? "" : "bad";
    if (found !== undefined) {
      said.textContent = "";
      shown.textContent = found;
      shown.hidden = false;
    } else {
      said.textContent = answer.ok ? "Done: " + done : "Not done: " + error;
    }
  } catch (error) {
    said.className = "bad";
    said.textContent = "Not known whether it was done: " + error.message;
  }
  await refresh();
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.target);
});
document.addEventListener("pointerdown", () => { held = true; });
for (const end of ["pointerup", "pointercancel"])
  document.addEventListener(end, () => { setTimeout(() => { held = false; }, 0); });

(async function forever() {
  for (;;) {
    await refresh();
    await new Promise((passed) => setTimeout(passed, PERIOD));
  }
})();
