/** Strokes on a grid of 16 × 16, in the theme's colour of icons. */
const DRAWINGS = {
  volume:
    "M3 4c0-2.7 10-2.7 10 0v8c0 2.7-10 2.7-10 0zM3 4c0 2.7 10 2.7 10 0M3 8c0 2.7 10 2.7 10 0",
  backup: "M8 10.5v-8M4.5 6L8 2.5 11.5 6M3 13.5h10",
  restore: "M8 2.5v8M4.5 7L8 10.5 11.5 7M3 13.5h10",
  pin: "M5 2.5h6M6 2.5v4.5L4 9.5h8L10 7V2.5M8 9.5v4.5",
  pruned: "M2.5 3.5h11v3h-11zM3.5 6.5v6.5h9v-6.5M6.5 9h3",
  remove: "M3 4.5h10M6 4.5v-2h4v2M4.5 4.5l.7 9h5.6l.7-9M8 7v4",
};

let made;

/** The icons of this extension, by name; created once, because JupyterLab registers icons by name. */
export function icons({ ui }) {
  made ??= Object.fromEntries(
    Object.entries(DRAWINGS).map(([name, strokes]) => [
      name,
      new ui.LabIcon({ name: `jupyter-volumes:${name}`, svgstr: svg(strokes) }),
    ]),
  );
  return made;
}

function svg(strokes) {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
    <path class="jp-icon3" stroke="#616161" stroke-width="1.3" stroke-linejoin="round" style="fill: none" d="${strokes}"/>
  </svg>`;
}
