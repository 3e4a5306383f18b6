// Reads a stream by Node's http2: the version and the id in the first line, then the body.
// node node_client.mjs URL ID CERTIFICATE
import { connect } from "node:http2";
import { readFileSync, writeSync } from "node:fs";

const [url, id, certificate] = process.argv.slice(2);
const { origin, pathname, search } = new URL(url);
const session = connect(origin, { ca: readFileSync(certificate) });
const stream = session.request({ ":path": pathname + search, "x-hermes-session-id": id });
const fail = (error) => {
  writeSync(2, `${error.code ?? error}\n`);
  process.exit(1);
};
session.on("error", fail);
stream.on("error", fail);
stream.on("response", (headers) => {
  writeSync(1, `${session.alpnProtocol} ${headers["x-hermes-session-id"]}\n`);
});
stream.on("data", (data) => writeSync(1, data));
stream.on("end", () => session.close());
stream.on("aborted", () => fail("aborted"));
