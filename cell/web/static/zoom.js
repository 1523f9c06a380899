// Zooms a picture with the wheel and the buttons, and moves it with the mouse.
const WIDEST = 16;

function setUp(frame) {
  const picture = frame.querySelector(".zoomed");
  let scale = 1;
  const zoom = (factor, x, y) => {
    const before = scale;
    scale = factor === "fit" ? 1 : Math.min(WIDEST, Math.max(1, scale * factor));
    picture.style.width = picture.style.height = `${100 * scale}%`;
    // What was under the mouse stays there.
    frame.scrollLeft = (frame.scrollLeft + x) * (scale / before) - x;
    frame.scrollTop = (frame.scrollTop + y) * (scale / before) - y;
  };
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  let held = null;
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse") return; // fingers scroll by themselves
    held = { x: event.clientX + frame.scrollLeft, y: event.clientY + frame.scrollTop };
    frame.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (held === null) return;
    frame.scrollLeft = held.x - event.clientX;
    frame.scrollTop = held.y - event.clientY;
  });
  frame.addEventListener("pointerup", () => { held = null; });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const step = button.dataset.zoom;
    button.addEventListener("click", () => {
      zoom(step === "fit" ? step : Number(step), frame.clientWidth / 2, frame.clientHeight / 2);
    });
  }
}

const found = document.querySelector(".zoom");
if (found) {
  setUp(found);
} else {
  // The page is built by a script, too.
  const watch = new MutationObserver(() => {
    const frame = document.querySelector(".zoom");
    if (frame) { watch.disconnect(); setUp(frame); }
  });
  watch.observe(document.documentElement, { childList: true, subtree: true });
}
