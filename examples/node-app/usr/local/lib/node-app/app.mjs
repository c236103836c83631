import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const credential = (id) => readFileSync(join(process.env.CREDENTIALS_DIRECTORY, id), 'utf8');
const digest = (text) => createHash('sha256').update(text).digest();

// The previous token is accepted too: clients do not rotate in the same second.
const accepted = ['node-token', 'node-token.previous'].map((id) => digest(`Bearer ${credential(id)}`));

createServer((request, response) => {
  const given = digest(request.headers.authorization ?? '');
  response.statusCode = accepted.some((one) => timingSafeEqual(one, given)) ? 200 : 401;
  response.end();
}).listen(8083, 'localhost');
