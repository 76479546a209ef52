# Makes the database if PGDATA has none, then serves it. The variables are those of Docker's official image:
# POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and PGDATA. Arguments go to the server.
set -eu

if [ ! -e "$PGDATA/PG_VERSION" ]; then
  # Made beside it and moved when it is whole: who is killed half-way starts over.
  new="$PGDATA.new"
  rm -rf "$new"
  printf '%s\n' "$POSTGRES_PASSWORD" |
    initdb -D "$new" -U "$POSTGRES_USER" --pwfile=/dev/stdin --auth=scram-sha-256 --encoding=UTF8 --locale=C
  echo 'host all all all scram-sha-256' >> "$new/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$new/postgresql.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$new" postgres > /dev/null
  mv -T "$new" "$PGDATA"
fi
exec postgres "$@"
