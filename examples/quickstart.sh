#!/bin/sh
# A first claim, from two new accounts until the listing is back on sale.
#
#   make quickstart                      # on a stack of its own
#
#   eval "$(.venv/bin/goodfaith env)"    # or on one that `make up` started
#   sh examples/quickstart.sh
#
# docs/tutorials/quickstart.md explains each command. Needs curl and python3.
# The last line of output is a JSON object.
set -eu
say() { printf '%s\n' "$*"; }
if [ -z "${INTAKE:-}" ] || [ -z "${MARKETPLACE:-}" ]; then
  say 'INTAKE is not set. First: eval "$(.venv/bin/goodfaith env)"' >&2
  exit 1
fi
begun=$(date +%s)

# ---- from here on, the commands of docs/tutorials/quickstart.md ----

# Five functions

# api TOKEN METHOD URL [OPTIONS OF CURL]: a request; prints the answer
api() {
  token=$1 method=$2 url=$3
  shift 3
  got=$(curl -sS --fail-with-body --noproxy '*' -X "$method" "$url" "$@" \
    -H "authorization: Bearer $token" -H 'content-type: application/json') ||
    { echo "$method $url failed: $got" >&2; return 1; }
  printf '%s' "$got"
}

# field NAME JSON: a value of a JSON document, such as items.0.id
field() {
  python3 -c '
import json, sys
name, text = sys.argv[1:]
try:
    found = json.loads(text)
    for key in name.split("."):
        found = found[int(key) if isinstance(found, list) else key]
except (LookupError, TypeError, ValueError):
    sys.exit("no " + name + " in the answer: " + text)
print(found)' "$@"
}

# page STATUS: whether the listing has a page with this HTTP status
page() {
  [ "$1" = "$(curl -sS --noproxy '*' -o /dev/null -w '%{http_code}' "$PAGE")" ]
}

# told TOKEN KIND: whether the inbox has a message of this kind
told() {
  api "$1" GET "$INTAKE/v1/inbox" | grep -q "\"kind\":\"$2\""
}

# wait_for WHAT COMMAND...: until the command succeeds, for two minutes
wait_for() {
  what=$1 tries=0
  shift
  until "$@"; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] ||
      { echo "not within two minutes: $what" >&2; return 1; }
    sleep 1
  done
}

# Two accounts

answer=$(api "$OPERATOR_TOKEN" POST "$INTAKE/v1/accounts" \
  -d '{"role": "holder", "identity_verified": true, "seen": "desk"}')
HOLDER=$(field account "$answer")
HOLDER_TOKEN=$(field token "$answer")
answer=$(api "$OPERATOR_TOKEN" POST "$INTAKE/v1/accounts" \
  -d '{"role": "seller", "identity_verified": true, "seen": "desk"}')
SELLER=$(field account "$answer")
SELLER_TOKEN=$(field token "$answer")
say "accounts: holder $HOLDER, seller $SELLER"

# Contacts

api "$HOLDER_TOKEN" PUT "$INTAKE/v1/contact" -d '{"name": "Owl Ltd",
  "address": "1 Moon Street, Nightford", "email": "owl@example.com"}'
api "$SELLER_TOKEN" PUT "$INTAKE/v1/contact" -d '{"name": "Mug Shop",
  "address": "2 Kiln Lane, Potsville", "email": "shop@example.com"}'
for account in "$HOLDER" "$SELLER"; do
  answer=$(api "$OPERATOR_TOKEN" POST \
    "$INTAKE/v1/accounts/$account/verify" -d '{"email_confirmed": true}')
  STATE=$(field state "$answer")
done
say "contacts: both have one, both accounts are $STATE"

# A right

RUN=$(date +%s)
answer=$(api "$OPERATOR_TOKEN" POST "$INTAKE/v1/rights" -d @- <<EOF
{"owner": "$HOLDER", "right_type": "trademark", "mark": "Owl and Moon",
 "number": "$RUN", "seen": "certificate-$RUN"}
EOF
)
RIGHT=$(field id "$answer")
STATUS=$(field status "$answer")
say "right: $RIGHT is $STATUS"

# A listing

LISTING=mug-$RUN
PAGE=$MARKETPLACE/items/$LISTING
answer=$(api "$MARKETPLACE_TOKEN" POST "$MARKETPLACE/seed" -d @- <<EOF
[{"listing": "$LISTING", "seller": "$SELLER", "title": "Owl and Moon mug"}]
EOF
)
wait_for "the listing has a page" page 200
say "listing: $PAGE is on sale"

# A claim

answer=$(api "$HOLDER_TOKEN" POST "$INTAKE/v1/claims" -d @- \
  -H "idempotency-key: claim-$RUN" <<EOF
{"right": "$RIGHT", "reason": "improper_use",
 "listings": ["https://market.example/items/$LISTING"]}
EOF
)
CLAIM=$(field claim "$answer")
ITEM=$(field items.0.item "$answer")
say "claim: $CLAIM is accepted, its item is $ITEM"

# The takedown

wait_for "the listing is taken down" page 410
say "takedown: the listing's page answers 410"

# The seller's message

wait_for "the seller is told" told "$SELLER_TOKEN" seller_notice
answer=$(api "$SELLER_TOKEN" GET "$INTAKE/v1/inbox")
KIND=$(field items.0.kind "$answer")
COMPLAINANT=$(field items.0.contacts.0.name "$answer")
mail=$(grep "shop@example.com.*$CLAIM" "$MAILBOX" | tail -n 1)
SUBJECT=$(field subject "$mail")
say "message to the seller: $KIND, complainant $COMPLAINANT; by mail: $SUBJECT"

# The counter-notification

answer=$(api "$SELLER_TOKEN" POST "$INTAKE/v1/items/$ITEM/counter" \
  -H "idempotency-key: counter-$RUN" \
  -d '{"materials": ["identity", "statement"]}')
COUNTER=$(field commands.0.command "$answer")
wait_for "the holder is told" told "$HOLDER_TOKEN" counter_forwarded
say "counter-notification: $COUNTER is accepted"

# The holder reads it

answer=$(api "$HOLDER_TOKEN" GET "$INTAKE/v1/inbox")
KIND=$(field items.0.kind "$answer")
COUNTERPART=$(field items.0.contacts.0.email "$answer")
say "message to the holder: $KIND, seller $COUNTERPART"

# The holder accepts it

answer=$(api "$HOLDER_TOKEN" POST "$INTAKE/v1/items/$ITEM/response" \
  -H "idempotency-key: response-$RUN" -d '{"accept": true}')
RESPONSE=$(field commands.0.command "$answer")
say "response: $RESPONSE is accepted"

# The restoration

wait_for "the listing is back" page 200
say "restoration: the listing's page answers 200"

# ---- the end of those commands ----

seconds=$(($(date +%s) - begun))
came='"taken_down": true, "restored": true'
say "{\"claim\": \"$CLAIM\", $came, \"seconds\": $seconds}"
