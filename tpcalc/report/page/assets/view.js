// What of a scene is seen: its place and its scale.

const ZOOM = [0.01, 3];

/** Needs a canvas, a root that is placed, redraw() and point(null). */
class View {
  constructor() {
    this.view = { x: 0, y: 0, k: 1 };
    this.wantsFit = true;
  }

  pan(dx, dy) {
    this.wantsFit = false;
    this.view.x += dx;
    this.view.y += dy;
    this.point(null);
    this.redraw();
  }

  zoom(by, [x, y] = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2], smooth = true) {
    this.wantsFit = false;
    const k = Math.min(Math.max(this.view.k * by, ZOOM[0]), ZOOM[1]);
    const ratio = k / this.view.k;
    this.go({ k, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio }, smooth);
  }

  fit(smooth = true) {
    this.wantsFit = true;
    this.frameIn({ x: 0, y: 0, w: this.root.w, h: this.root.h }, smooth, 1.1);
  }

  /** Bring a rectangle of the scene into the middle. */
  frameIn({ x, y, w, h }, smooth = true, closest = 1.25, margin = 24) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const k = Math.max(Math.min((width - 2 * margin) / w, (height - 2 * margin) / h, closest), ZOOM[0]);
    this.go({ k, x: (width - w * k) / 2 - x * k, y: (height - h * k) / 2 - y * k }, smooth);
  }

  go(view, smooth) {
    cancelAnimationFrame(this.moving);
    if (!smooth || still.matches) {
      this.view = view;
      this.redraw();
      return;
    }
    const from = { ...this.view };
    const start = performance.now();
    const step = (now) => {
      const t = Math.min(1, Math.max(0, (now - start) / 220));
      const eased = 1 - (1 - t) ** 3;
      for (const key of ["x", "y", "k"]) this.view[key] = from[key] + (view[key] - from[key]) * eased;
      this.redraw();
      if (t < 1) this.moving = requestAnimationFrame(step);
    };
    this.moving = requestAnimationFrame(step);
  }
}
