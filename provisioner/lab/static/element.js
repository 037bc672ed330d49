/**
 * Create an element.
 *
 * @param tag - its name
 * @param attributes - its attributes; those that are null are left out
 * @param children - elements and texts; never parsed as HTML
 */
export function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) {
      node.setAttribute(name, value);
    }
  }
  node.append(...children);
  return node;
}
