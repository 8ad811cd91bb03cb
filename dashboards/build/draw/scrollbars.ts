// A module of CommonJS whose default export esbuild does not find when a module of Grafana's asks for it.
export { Scrollbars as default, Scrollbars } from './node_modules/react-custom-scrollbars-2/lib/index.js';
