/* A Modbus server that is libmodbus's: one machine's registers over TCP, or as a slave on a serial line.
 *
 *   modbus_server tcp PORT | rtu DEVICE
 *
 * The memory is read from standard input: "TABLE ADDRESS VALUE" a line, then an empty line.
 * "ready" tells that it listens. Each write is told: "FUNCTION ADDRESS COUNT". Holding registers from BUSY_FROM on are always busy.
 * It ends with standard input.
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNIT_ID 7
#define SIZE 64
#define BUSY_FROM 60

static void load(modbus_mapping_t *memory) {
    char line[80], table[16];
    unsigned address, value;
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%15s %u %u", table, &address, &value) == 3) {
        if (address >= SIZE) exit(3);
        if (!strcmp(table, "coil")) memory->tab_bits[address] = value;
        else if (!strcmp(table, "discrete")) memory->tab_input_bits[address] = value;
        else if (!strcmp(table, "holding")) memory->tab_registers[address] = value;
        else if (!strcmp(table, "input")) memory->tab_input_registers[address] = value;
        else exit(3);
    }
}

/* One request and its answer. Returns 0 when the connection is over. */
static int serve(modbus_t *context, modbus_mapping_t *memory) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int length = modbus_receive(context, query);
    if (length == -1) return 0;
    if (length == 0) return 1; /* for another slave on the line */
    const uint8_t *pdu = query + modbus_get_header_length(context);
    unsigned function = pdu[0], address = pdu[1] << 8 | pdu[2], count = pdu[3] << 8 | pdu[4];
    if (function == 3 && address >= BUSY_FROM && address < SIZE) {
        modbus_reply_exception(context, query, MODBUS_EXCEPTION_SLAVE_OR_SERVER_BUSY);
        return 1;
    }
    if (modbus_reply(context, query, length, memory) == -1) return 0;
    if (function == 5 || function == 6) count = 1;
    if (function == 5 || function == 6 || function == 15 || function == 16) printf("%u %u %u\n", function, address, count);
    return 1;
}

static int stdin_ended(void) {
    struct pollfd watched = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    return poll(&watched, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int tcp = !strcmp(argv[1], "tcp"), listening = -1;
    modbus_t *context = tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2])) : modbus_new_rtu(argv[2], 19200, 'N', 8, 2);
    modbus_mapping_t *memory = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    if (!context || !memory) return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    load(memory);
    modbus_set_slave(context, UNIT_ID);
    modbus_set_indication_timeout(context, 0, 100000);
    if (tcp ? (listening = modbus_tcp_listen(context, 4)) == -1 : modbus_connect(context) == -1) {
        fprintf(stderr, "%s: %s\n", argv[2], modbus_strerror(errno));
        return 1;
    }
    puts("ready");
    while (!stdin_ended()) {
        if (tcp) {
            struct pollfd watched = {.fd = listening, .events = POLLIN};
            if (poll(&watched, 1, 100) <= 0) continue;
            if (modbus_tcp_accept(context, &listening) == -1) return 1;
        }
        /* A pause between two requests is no end. */
        while (!stdin_ended() && (serve(context, memory) || errno == ETIMEDOUT)) errno = 0;
        if (tcp) modbus_close(context);
        else modbus_flush(context);
    }
    return 0;
}
