// Reads every test vector of docs/wire-format.md, from the key request to the last envelope, and prints what is inside.
// It shares no code with govterm: npm ci, then node reader.mjs ../../wire-format.md
import { createDecipheriv, getCiphers } from "node:crypto";
import { readFileSync } from "node:fs";
import { decode, encode } from "@msgpack/msgpack";
import { sm2, sm4 } from "sm-crypto-v2";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const bytes = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const blocks = (kind) =>
  [...document.matchAll(new RegExp("```" + kind + "\n(.*?)```", "gs"))].map(([, block]) =>
    Object.fromEntries(block.trim().split("\n").map((line) => line.split(/ *= (.*)/s, 2))));
const document = readFileSync(process.argv[2], "utf8");
const keys = blocks("vector")[0];
const unsealed = new Map(); // key id -> data key, from the grant
const seen = new Map(); // key id and stream -> the last counter

/** SM4-GCM: the plaintext, or an exception when one bit differs. */
function open(key, nonce, sealed, additional) {
  const [text, tag] = [sealed.subarray(0, -16), sealed.subarray(-16)];
  if (!getCiphers().includes("sm4-gcm")) {
    return sm4.decrypt(text, key, { mode: "gcm", iv: nonce, associatedData: additional, tag, output: "array" });
  }
  const decipher = createDecipheriv("sm4-gcm", key, nonce).setAAD(additional).setAuthTag(tag);
  return Buffer.concat([decipher.update(text), decipher.final()]);
}

/** A key request, a grant or a refusal: the signature is right; a grant also brings the data keys. */
function readSigned(payload, signer) {
  const [content, signature] = decode(payload);
  if (!sm2.doVerifySignature(content, hex(signature), signer, { der: true, hash: true })) throw Error("bad signature");
  const fields = decode(content);
  if (fields.length === 8) {
    const unwrap = (wrapped) => sm2.doDecrypt(hex(wrapped), keys.ephemeral_private, 1, { asn1: true, output: "array" });
    unsealed.set(hex(fields[2]), unwrap(fields[4])).set(hex(fields[3]), unwrap(fields[5]));
  }
  return fields;
}

/** An envelope: of a version, under a key, at a place and in an order that are right. */
function readSealed(payload, terminal, direction, stream, topic) {
  const [version, algorithm, keyId, nonce, sealed] = decode(payload);
  const counter = Buffer.from(nonce).readBigUInt64BE(4);
  if (version !== 1 || algorithm !== 1 || !unsealed.has(hex(keyId))) throw Error("another version or key");
  if (counter <= (seen.get(hex(keyId) + stream) ?? 0n)) throw Error("replayed or reordered");
  const additional = encode(["govterm", version, algorithm, keyId, terminal, direction, stream, topic]);
  const plaintext = open(unsealed.get(hex(keyId)), nonce, sealed, additional);
  seen.set(hex(keyId) + stream, counter);
  return decode(plaintext);
}

for (const { topic, payload } of blocks("message")) {
  const [, , terminal, direction, stream] = topic.split("/");
  const signer = direction === "up" ? keys.identity_point : keys.platform_point;
  const read = { presence: decode, grant: (body) => readSigned(body, signer) }[stream];
  const contents = (read ?? ((body) => readSealed(body, terminal, direction, stream, topic)))(bytes(payload));
  const show = (_, value) => (value instanceof Uint8Array ? "0x" + hex(value) : value);
  console.log(topic, JSON.stringify(contents, show));
}
