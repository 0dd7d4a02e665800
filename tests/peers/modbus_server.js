// A Modbus server that is jsmodbus's: one machine's registers over TCP, or with serial framing in a TCP connection.
//
//   node modbus_server.js tcp|rtu+tcp PORT
//
// The memory is read from standard input: "TABLE ADDRESS VALUE" a line, then an empty line.
// "ready" tells that it listens. Each write is told: "FUNCTION ADDRESS COUNT". It ends with standard input.
"use strict";

const net = require("node:net");
const readline = require("node:readline");
const modbus = require("jsmodbus");

const SIZE = 64;
const memory = { coils: Buffer.alloc(SIZE / 8), discrete: Buffer.alloc(SIZE / 8), holding: Buffer.alloc(2 * SIZE), input: Buffer.alloc(2 * SIZE) };

function store(table, address, value) {
    if (table === "holding" || table === "input") memory[table].writeUInt16BE(value, 2 * address);
    else if (value) memory[table === "coil" ? "coils" : table][address >> 3] |= 1 << (address & 7);
}

function tell(server) {
    for (const event of ["WriteSingleCoil", "WriteSingleRegister", "WriteMultipleCoils", "WriteMultipleRegisters"]) {
        server.on(`post${event}`, ({ body }) => {
            // jsmodbus tells a multiple write twice, once without its request.
            if (body) console.log(body.fc, body.address, body.quantity ?? 1);
        });
    }
}

function listen(framing, port) {
    const listening = net.createServer();
    listening.on("connection", (socket) => {
        socket.on("error", () => socket.destroy());
        if (framing === "rtu+tcp") tell(new modbus.server.RTU(socket, memory));
    });
    if (framing === "tcp") tell(new modbus.server.TCP(listening, memory));
    listening.listen(port, "127.0.0.1", () => console.log("ready"));
}

const [framing, port] = process.argv.slice(2);
let loaded = false;
readline
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
        const [table, address, value] = line.split(" ");
        if (line) store(table, Number(address), Number(value));
        else if (!loaded) {
            loaded = true;
            listen(framing, Number(port));
        }
    })
    .on("close", () => process.exit(0));
