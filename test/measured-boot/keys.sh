#!/bin/sh -eu
# usage: keys.sh FOLDER       keys that sign values of PCR 11 (the owner's and a stranger's) and those of Secure Boot
cd "$1"
for name in pcr stranger; do
  openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $name.key
  openssl pkey -in $name.key -pubout -out $name.pub
done
owner=11111111-2222-3333-4444-000000000000
for name in PK KEK db; do
  openssl req -new -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=auxcred test $name/" \
    -keyout $name.key -out $name.crt 2> /dev/null
  cert-to-efi-sig-list -g $owner $name.crt $name.esl
done
sign-efi-sig-list -g $owner -k PK.key -c PK.crt PK PK.esl PK.auth > /dev/null
sign-efi-sig-list -g $owner -k PK.key -c PK.crt KEK KEK.esl KEK.auth > /dev/null
sign-efi-sig-list -g $owner -k KEK.key -c KEK.crt db db.esl db.auth > /dev/null
