// Asks for the machines every two seconds and shows them. Whatever a machine says of itself is
// shown as text, never as markup.
"use strict";

const EVERY = 2000;

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text ?? "";
  if (className) made.className = className;
  return made;
}

function cell(text, small, className) {
  const made = element("td", text, className);
  if (small) made.append(element("small", small));
  return made;
}

function ago(seconds) {
  if (seconds < 90) return `${Math.max(seconds, 0)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

function row(machine) {
  const made = element("tr", "", machine.present ? "" : "absent");
  const seen = machine.last_seen;
  made.append(
    cell(machine.mac, machine.hostname, "mac"),
    cell(machine.address, "", "address"),
    cell(machine.role),
    cell(machine.stage, "", machine.stage === "up" ? "up" : ""),
    cell(machine.profile),
    cell(machine.architecture, machine.firmware),
    cell(machine.serial, machine.uuid),
    cell(seen === null ? "never" : ago(Math.round(Date.now() / 1000) - seen)),
  );
  return made;
}

function summary(status) {
  const parts = [
    `${status.version}`,
    `${status.mode} on ${status.interface}, ${status.address}`,
    status.xdp ? `${status.xdp.mode} XDP, ${status.xdp.answered} answered` : "no XDP",
    `${status.dhcp.answered} answered by the daemon`,
    `${status.machines} machines`,
  ];
  if (status.leases !== null) parts.push(`${status.leases} leases`);
  return parts.join(" · ");
}

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function refresh() {
  const line = document.getElementById("status");
  try {
    const [status, machines] = await Promise.all([ask("/api/status"), ask("/api/machines")]);
    line.textContent = summary(status);
    line.className = "";
    document.getElementById("machines").replaceChildren(...machines.map(row));
    document.getElementById("empty").hidden = machines.length > 0;
  } catch (error) {
    line.textContent = `talos-pxe does not answer (${error.message})`;
    line.className = "failed";
  }
  setTimeout(refresh, EVERY);
}

refresh();
