// An OPC UA server that is not asyncua's: node-opcua with one machine's nodes, told what to do a line of JSON at a time.
//
//   node opcua_server.js PORT PKI_FOLDER [TOTAL]
//
// As tests/chaos/opcua_server.py does:
//   {"total": N}         the machine made its N-th piece
//   {"program": false}   its nodes are gone, as in the middle of a download; true: they are there again
//   {"ask": "held"}      how many sessions, subscriptions and channels the server holds, answered with a line
// It ends when standard input ends.
"use strict";

const readline = require("node:readline");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { OPCUAServer } = require("node-opcua-server");
const { DataType, Variant } = require("node-opcua-variant");

const NAMESPACE = "urn:lineside:chaos";

class Machine {
    constructor(server, total) {
        this.server = server;
        this.total = total;
        this.nodes = null;
    }

    load() {
        const space = this.server.engine.addressSpace;
        const index = space.getNamespaceIndex(NAMESPACE);
        const own = index < 0 ? space.registerNamespace(NAMESPACE) : space.getNamespace(NAMESPACE);
        const add = (name, dataType, value) => {
            const node = own.addVariable({ organizedBy: space.rootFolder.objects, browseName: name, nodeId: `s=${name}`, dataType });
            node.setValueFromSource(new Variant({ dataType, value }));
            return node;
        };
        this.nodes = {
            total: add("Counters.Total", DataType.UInt32, this.total),
            running: add("State.Running", DataType.Boolean, true),
            recipe: add("Recipe.Number", DataType.UInt16, 7),
        };
    }

    unload() {
        const space = this.server.engine.addressSpace;
        for (const node of Object.values(this.nodes)) space.deleteNode(node);
        this.nodes = null;
    }

    obey(order) {
        if (order.total !== undefined) {
            this.total = order.total;
            if (this.nodes) this.nodes.total.setValueFromSource(new Variant({ dataType: DataType.UInt32, value: this.total }));
        } else if (order.program !== undefined) {
            if (order.program && !this.nodes) this.load();
            if (!order.program && this.nodes) this.unload();
        }
    }

    held() {
        const { currentSessionCount, currentSubscriptionCount, currentChannelCount } = this.server;
        return { sessions: currentSessionCount, subscriptions: currentSubscriptionCount, channels: currentChannelCount };
    }
}

async function main(port, pki, total) {
    const server = new OPCUAServer({
        port,
        hostname: "127.0.0.1",
        serverCertificateManager: new OPCUACertificateManager({ rootFolder: pki, automaticallyAcceptUnknownCertificate: true }),
        serverCapabilities: { maxSessions: 20 },
    });
    await server.initialize();
    // A PLC whose program was changed numbers its namespaces differently: each start does so here.
    for (let number = 0; number < total % 3; number++) server.engine.addressSpace.registerNamespace(`${NAMESPACE}:other-${number}`);
    const machine = new Machine(server, total);
    machine.load();
    await server.start();
    console.log(JSON.stringify({ listening: port }));
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const order = JSON.parse(line);
        machine.obey(order);
        if (order.ask) console.log(JSON.stringify(machine.held()));
    }
    await server.shutdown(0);
    process.exit(0);
}

main(Number(process.argv[2]), process.argv[3], Number(process.argv[4] || 0)).catch((error) => {
    console.error(error);
    process.exit(1);
});
