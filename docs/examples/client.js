// Serve one whole citizen over the local API: node client.js SOCKET (no package needed).
const net = require("node:net");
const readline = require("node:readline");

const API_VERSION = 2;
const FORMS = {
  residence_permit_renewal: {
    permit_number: "110101199001011234", address: "示例路 1 号", telephone: "13800138000", reason: "务工",
  },
  property_search: { purpose: "交易", certificate_number: "样本不动产权第0000001号" },
};

const connection = net.createConnection(process.argv[2]);
const waiting = new Map();
let state = {};
let number = 0;

readline.createInterface({ input: connection }).on("line", (line) => {
  const message = JSON.parse(line);
  if (message.method === "events.change") {
    state[message.params.component] = message.params.state;
  } else if (message.method !== undefined) {
    console.log("…", message.method, message.params.text ?? "");
  } else {
    const { resolve, reject } = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error) reject(new Error(JSON.stringify(message.error)));
    else resolve(message.result);
  }
});
connection.on("close", () => {
  for (const { reject } of waiting.values()) reject(new Error("the daemon closed the connection"));
});

function call(method, params = {}) {
  number += 1;
  connection.write(JSON.stringify({ jsonrpc: "2.0", id: number, method, params }) + "\n");
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}

/** Call a business method; what is refused ends the visit with the citizen's text. */
async function done(method, params) {
  const result = await call(method, params);
  if (result.outcome === "refused") throw new Error(`${method}: ${result.code} ${result.text}`);
  console.log(method, result);
  return result;
}

/** Do long work as an operation, which could be cancelled meanwhile with operation.cancel. */
async function operate(method, params) {
  const { operation } = await call("operation.start", { method, params });
  for (;;) {
    const now = await call("operation.wait", { operation, seconds: 10 });
    if (now.state === "running") continue;
    if (now.state !== "done") throw new Error(`${method}: ${now.state} ${JSON.stringify(now.error)}`);
    if (now.result.outcome === "refused") throw new Error(`${method}: ${now.result.code} ${now.result.text}`);
    console.log(method, now.result);
    return now.result;
  }
}

/** Promise to live: a UI that hangs is told on the board, and its citizen's data are wiped. */
async function beat() {
  const { seconds } = await call("ui.heartbeat");
  return setInterval(() => call("ui.heartbeat").catch(() => {}), seconds * 1000);
}

async function apply(session, matter) {
  const { receipt, matter: wanted } = await done("application.begin", { session, matter });
  await done("application.form", { session, values: FORMS[matter] });
  for (const { id } of wanted.materials) {
    await done("session.begin_document", { session });
    await done("session.add_page", { session });
    await done("session.finish_document", { session });
    await done("application.material", { session, material: id });
  }
  if (wanted.fee_fen > 0) await pay(session, receipt, wanted.fee_fen);
  await done("application.check", { session });
  await operate("application.file", { session });
  await done("progress.by_receipt", { receipt });
}

/** Pay a fee with a telephone; what is not used by the filing goes back by itself. */
async function pay(session, receipt, fee) {
  const wanted = { session, method: "unionpay_qr", amount_fen: fee, purpose: receipt };
  const { order, qr } = await done("payment.begin", wanted);
  console.log("… show as a QR code:", qr);
  for (;;) {
    const paid = await operate("payment.await", { session, order, seconds: 30 });
    if (paid.outcome === "done") break;
    if (paid.code !== "payment.awaiting") throw new Error(`payment.await: ${paid.code} ${paid.text}`);
  }
  await done("payment.receipt", { session, order }); // the slip, before the filing ends the order
}

async function report(session) {
  const { districts, emergency_zh: notice } = await call("hotline.categories");
  console.log("…", notice); // on the screen before anything is typed
  const district = districts[0] ?? "样本区";
  const request = { category: "help", text: "小区门口的路灯不亮，请修理。", district, anonymous: false };
  const { receipt } = await done("hotline.begin", { session }); // shown before anything is sent
  await operate("hotline.register", { session, ...request });
  await done("hotline.standing", { session, receipt });
}

async function main() {
  const welcome = await call("rpc.hello", { client: "docs/examples/client.js", version: API_VERSION });
  ({ state } = await call("events.subscribe"));
  console.log(`govterm ${welcome.software}, reader ${state.idcard.state}, platform ${state.platform.state}`);
  const beating = await beat();
  const { session } = await call("session.open");
  await done("session.consent", { session, agreed: true, version: "1" }); // once the citizen has agreed
  await operate("session.verify_identity", { session });
  await operate("session.request_certificate", { session, certificate: "social_insurance_enrolment" });
  await apply(session, "residence_permit_renewal");
  await apply(session, "property_search"); // costs a fee
  await report(session);
  await done("progress.mine", { session });
  await call("session.close", { session });
  clearInterval(beating);
  connection.end();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
