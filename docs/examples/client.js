// Serve one citizen over the local API: node client.js SOCKET (no package needed).
const net = require("node:net");
const readline = require("node:readline");

const connection = net.createConnection(process.argv[2]);
const waiting = new Map();
let number = 0;

readline.createInterface({ input: connection }).on("line", (line) => {
  const message = JSON.parse(line);
  if (message.id === undefined) {
    console.log("…", message.method, message.params.text ?? "");
    return;
  }
  const { resolve, reject } = waiting.get(message.id);
  waiting.delete(message.id);
  if (message.error) reject(new Error(JSON.stringify(message.error)));
  else resolve(message.result);
});

function call(method, params = {}) {
  number += 1;
  connection.write(JSON.stringify({ jsonrpc: "2.0", id: number, method, params }) + "\n");
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}

async function main() {
  const { session } = await call("session.open");
  console.log(await call("session.verify_identity", { session }));
  console.log(await call("session.request_certificate", { session, certificate: "social_insurance_enrolment" }));
  await call("session.close", { session });
  connection.end();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
