// The pages work without this script; it follows Airflow's theme, opens links outside the frame, and refreshes.
"use strict";

// Airflow's page around the frame; null where the page was opened by itself.
const airflow = (() => {
  try {
    return window.parent !== window && window.parent.document.documentElement ? window.parent.document : null;
  } catch {
    return null; // another site's page
  }
})();

// --- theme ---

function themeOfAirflow() {
  const root = airflow?.documentElement;
  if (root?.classList.contains("dark") || root?.dataset.theme === "dark") return "dark";
  if (root?.classList.contains("light") || root?.dataset.theme === "light") return "light";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function followTheme() {
  const theme = themeOfAirflow();
  if (document.documentElement.dataset.theme !== theme) {
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("theme", { detail: theme }));
  }
}

followTheme();
if (airflow) {
  new MutationObserver(followTheme).observe(airflow.documentElement, {
    attributes: true, attributeFilter: ["class", "data-theme"],
  });
}

// --- links that leave the frame: Airflow's frame allows no pop-ups, and what is linked to refuses to be framed ---

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[target=_blank], a[target=_top]");
  if (!link || !airflow) return;
  event.preventDefault();
  const outside = airflow.createElement("a");
  outside.href = new URL(link.getAttribute("href"), window.location.href).href;
  if (link.target === "_blank") {
    outside.target = "_blank";
    outside.rel = "noopener noreferrer";
  }
  airflow.body.append(outside);
  outside.click();
  outside.remove();
});

// --- the notebook's frame: it runs no script, so the theme and the cell to scroll to are in its URL ---

function fillFrame() {
  const frame = document.querySelector("iframe[data-src]");
  if (!frame) return;
  const url = `${frame.dataset.src}&theme=${document.documentElement.dataset.theme}${frame.dataset.fragment}`;
  if (frame.getAttribute("src") !== url) frame.src = url;
}

document.addEventListener("theme", fillFrame);
fillFrame();

// --- refresh: parts of the page that carry `data-refresh` are exchanged where they changed, and only those ---

function isSame(part, other) {
  const key = part.dataset.key; // of a part that this script changes
  return key === undefined ? part.outerHTML === other.outerHTML : key === other.dataset.key;
}

function hasSelection(part) {
  const selection = window.getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
}

// The element of a fresh part that has the id of this one, or is a link to the same place.
function counterpart(element, part) {
  const href = element.getAttribute("href");
  const same = (other) => (element.id ? other.id === element.id : href && other.getAttribute("href") === href);
  return [part, ...part.querySelectorAll(element.id ? "[id]" : "[href]")].find(same);
}

async function refresh() {
  const answer = await fetch(window.location.href);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // A parsed document runs no scripts, so what is meant for readers without them would be there.
  for (const other of fresh.querySelectorAll("noscript")) other.remove();
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const other = fresh.getElementById(part.id);
    if (!other || isSame(part, other) || hasSelection(part)) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const again = focused && counterpart(focused, other);
    // What a person is just using stays, or stays as it is.
    if (focused && !again) continue;
    part.replaceWith(document.adoptNode(other));
    again?.focus({ preventScroll: true });
  }
  fillFrame();
}

function refreshLater() {
  const seconds = Number(document.querySelector("[data-refresh-seconds]")?.dataset.refreshSeconds || 0);
  if (!seconds) return;
  window.setTimeout(async () => {
    if (!document.hidden) await refresh().catch(() => {});
    refreshLater();
  }, seconds * 1000);
}

refreshLater();
