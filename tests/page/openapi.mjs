// Holds the description of the API, on standard input, to the schema of OpenAPI.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

const require = createRequire(`${process.env.PAGE_MODULES}/`);
const { Validator } = await import(require.resolve('@seriousme/openapi-schema-validator'));
const validator = new Validator();
const { valid, errors } = await validator.validate(JSON.parse(await text(process.stdin)));
if (!valid || validator.version !== '3.1') {
  console.error(validator.version, JSON.stringify(errors, null, 1));
  process.exit(1);
}
