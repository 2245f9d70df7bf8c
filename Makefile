# SPDX-License-Identifier: GPL-3.0-or-later
.PHONY: link
# ansible-playbook in this checkout finds the collection njord.telemetry by this link, whatever the folder is called.
link:
	mkdir -p playbooks/collections/ansible_collections/njord
	ln -sfn ../../../.. playbooks/collections/ansible_collections/njord/telemetry
