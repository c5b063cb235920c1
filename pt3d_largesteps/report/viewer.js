import * as THREE from "three";
import { OrbitControls } from "orbit-controls";

// Target and result in one canvas, beside each other (or above, where it is narrow), over each other, or one alone.
class Viewer {
  constructor(canvas, data) {
    this.data = data;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.setScissorTest(true);
    this.geometries = data.topologies.map(() => null);
    this.result = this.shape(0x5b8fd0);
    this.target = data.target ? this.shape(0xe0a03c) : null;
    this.camera = new THREE.PerspectiveCamera(32, 1, 0.01, 100);
    this.camera.add(Object.assign(new THREE.DirectionalLight(0xffffff, 2.6), { name: "light" }));
    this.camera.getObjectByName("light").position.set(-0.6, 0.9, 1);
    this.scene = new THREE.Scene();
    this.scene.add(this.camera, new THREE.HemisphereLight(0xdfe8ff, 0x4b4038, 1.1), this.result.group);
    if (this.target) {
      this.scene.add(this.target.group);
      this.put(this.target, data.target);
    }
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.addEventListener("change", () => this.draw());
    this.view = this.target ? "beside" : "result";
    this.frameAll();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  shape(color) {
    const side = THREE.DoubleSide;
    const solid = new THREE.MeshStandardMaterial({ color, side, roughness: 0.8, polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1 });
    const lines = new THREE.MeshBasicMaterial({ color: 0x10151c, wireframe: true, transparent: true, opacity: 0.45 });
    const meshes = [solid, lines].map((material) => new THREE.Mesh(new THREE.BufferGeometry(), material));
    meshes.forEach((mesh) => (mesh.frustumCulled = false));
    meshes[1].visible = false;
    return { group: new THREE.Group().add(...meshes), solid: meshes[0], lines: meshes[1] };
  }

  // Geometries are made once per topology; a frame only moves their vertices.
  put(shape, packed) {
    const index = packed.topology;
    const geometry = (shape.geometries ??= {})[index] ?? (shape.geometries[index] = this.geometry(this.data.topologies[index]));
    unpackPositions(packed.positions, geometry.attributes.position.array);
    geometry.attributes.position.needsUpdate = true;
    geometry.computeVertexNormals();
    shape.solid.geometry = shape.lines.geometry = geometry;
  }

  geometry(topology) {
    const geometry = new THREE.BufferGeometry();
    const bytes = decode(topology.data).buffer;
    geometry.setIndex(new THREE.BufferAttribute(topology.wide ? new Uint32Array(bytes) : new Uint16Array(bytes), 1));
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(3 * topology.vertices), 3));
    return geometry;
  }

  show(index) {
    this.put(this.result, this.data.frames[index]);
    this.draw();
  }

  // The camera sees all of the target, the first and the last shape.
  frameAll() {
    const { frames, target, topologies } = this.data;
    const shapes = [target, frames[0], frames[frames.length - 1]].filter(Boolean).map((packed) => {
      const points = new Float32Array(3 * topologies[packed.topology].vertices);
      unpackPositions(packed.positions, points);
      return points;
    });
    const box = new THREE.Box3();
    shapes.forEach((points) => box.union(new THREE.Box3().setFromArray(points)));
    this.center = box.getCenter(new THREE.Vector3());
    const point = new THREE.Vector3();
    let square = 0;
    for (const points of shapes) {
      for (let index = 0; index < points.length; index += 3) {
        square = Math.max(square, point.fromArray(points, index).distanceToSquared(this.center));
      }
    }
    this.radius = Math.sqrt(square) || 1;
    this.reset();
  }

  reset() {
    const distance = (1.02 * this.radius) / Math.sin(THREE.MathUtils.degToRad(this.camera.fov / 2));
    const direction = new THREE.Vector3().setFromSphericalCoords(1, THREE.MathUtils.degToRad(72), THREE.MathUtils.degToRad(35));
    this.camera.position.copy(this.center).addScaledVector(direction, distance / Math.min(this.tight ?? 1, 1));
    this.camera.near = distance / 100;
    this.camera.far = distance * 20;
    this.controls.target.copy(this.center);
    this.controls.update();
    this.draw();
  }

  panes() {
    const { clientWidth: width, clientHeight: height } = this.renderer.domElement;
    if (this.view !== "beside") return [[0, 0, width, height]];
    if (width < height) return [[0, height / 2, width, height / 2], [0, 0, width, height / 2]];
    return [[0, 0, width / 2, height], [width / 2, 0, width / 2, height]];
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.renderer.domElement;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    const [, , paneWidth, paneHeight] = this.panes()[0];
    const tight = paneWidth / paneHeight;  // in a pane that is higher than wide the camera has to stand back
    const before = this.tight;
    this.tight = tight;
    if (before === undefined || Math.min(before, 1) !== Math.min(tight, 1)) {
      const factor = Math.min(before ?? 1, 1) / Math.min(tight, 1);
      this.camera.position.sub(this.controls.target).multiplyScalar(factor).add(this.controls.target);
      this.controls.update();
    }
    this.draw();
  }

  setView(view) {
    this.view = view;
    this.resize();
  }

  setLook({ wireframe, flat }) {
    for (const shape of [this.result, this.target].filter(Boolean)) {
      shape.lines.visible = wireframe;
      shape.solid.material.flatShading = flat;
      shape.solid.material.needsUpdate = true;
    }
    this.draw();
  }

  draw() {
    const both = this.view === "over";
    const shown = { beside: ["target", "result"], over: [null], result: ["result"], target: ["target"] }[this.view];
    if (this.target) {
      Object.assign(this.target.solid.material, { transparent: both, opacity: both ? 0.45 : 1, depthWrite: !both });
    }
    this.panes().forEach(([x, y, width, height], pane) => {
      this.result.group.visible = both || shown[pane] === "result";
      if (this.target) {
        this.target.group.visible = both || shown[pane] === "target";
        this.target.lines.visible = this.result.lines.visible && !both;
      }
      this.camera.aspect = width / height;
      this.camera.updateProjectionMatrix();
      this.renderer.setViewport(x, y, width, height);
      this.renderer.setScissor(x, y, width, height);
      this.renderer.render(this.scene, this.camera);
    });
  }
}

function decode(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < bytes.length; index++) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

function unpackPositions({ data, low, size }, out) {
  const bytes = decode(data).buffer;
  if (!low) return out.set(new Float32Array(bytes));
  const steps = new Uint16Array(bytes);
  for (let index = 0; index < steps.length; index++) out[index] = low[index % 3] + (steps[index] / 65535) * size[index % 3];
}
