-- The mutations of PostGraphile. `sku` rows are the locks: lock first, then read with a new
-- snapshot.

CREATE OR REPLACE FUNCTION stock_status(sellable numeric, safety_stock numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN sellable <= 0 THEN 'out_of_stock'
    WHEN sellable <= safety_stock THEN 'critical'
    WHEN sellable <= 2 * safety_stock THEN 'low'
    ELSE 'normal'
  END
$$;

CREATE OR REPLACE FUNCTION adjustment_id(at timestamptz) RETURNS text
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT 'adj_' || lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
    || right(replace(gen_random_uuid()::text, '-', ''), 14)
$$;

CREATE OR REPLACE FUNCTION set_stock(
  tenant text, code text, place text, quantity bigint, reason text,
  OUT sku text, OUT status text, OUT on_hand bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  level stock_level;
  at timestamptz;
BEGIN
  PERFORM FROM sku WHERE tenant_id = tenant AND sku = code FOR NO KEY UPDATE;
  SELECT * INTO level FROM stock_level
  WHERE tenant_id = tenant AND sku = code AND warehouse_id = place FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'SKU % has no stock level in %', code, place;
  END IF;
  at := date_trunc('milliseconds', clock_timestamp());
  UPDATE stock_level
  SET on_hand = quantity,
      status = stock_status(quantity - reserved, safety_stock),
      version = version + 1,
      adjusted_at = at
  WHERE tenant_id = tenant AND sku = code AND warehouse_id = place;
  INSERT INTO adjustment (
    tenant_id, id, sku, warehouse_id, sequence, before_quantity, after_quantity, delta, reason,
    created_by, created_at
  ) VALUES (
    tenant, adjustment_id(at), code, place, level.version + 1, level.on_hand, quantity,
    quantity - level.on_hand, set_stock.reason, 'bench@example.com', at
  );
  UPDATE sku
  SET status = (
        SELECT stock_status(sum(l.on_hand - l.reserved), sum(l.safety_stock))
        FROM stock_level l WHERE l.tenant_id = tenant AND l.sku = code
      ),
      version = version + 1,
      updated_at = at
  WHERE tenant_id = tenant AND sku = code
  RETURNING sku, status INTO set_stock.sku, set_stock.status;
  set_stock.on_hand := quantity;
END
$$;

CREATE OR REPLACE FUNCTION bulk_set_stock(
  tenant text, codes text[], places text[], quantities bigint[], reason text
) RETURNS TABLE (sku text, warehouse_id text, before bigint, after bigint, adjustment_id text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  found integer;
BEGIN
  PERFORM FROM sku WHERE tenant_id = tenant AND sku = ANY (codes)
  ORDER BY sku FOR NO KEY UPDATE;
  at := date_trunc('milliseconds', clock_timestamp());
  RETURN QUERY
  WITH levels AS (
    UPDATE stock_level new
    SET on_hand = a.quantity,
        status = stock_status(a.quantity - old.reserved, old.safety_stock),
        version = old.version + 1,
        adjusted_at = at
    FROM unnest(codes, places, quantities) WITH ORDINALITY
      AS a (sku, warehouse_id, quantity, number)
      JOIN stock_level old USING (sku, warehouse_id)
    WHERE old.tenant_id = tenant AND new.tenant_id = tenant
      AND new.sku = a.sku AND new.warehouse_id = a.warehouse_id
    RETURNING new.sku, new.warehouse_id, new.version, old.on_hand AS before,
      new.on_hand AS after, a.number, adjustment_id(at) AS id
  ), ledger AS (
    INSERT INTO adjustment (
      tenant_id, id, sku, warehouse_id, sequence, before_quantity, after_quantity, delta, reason,
      created_by, created_at
    )
    SELECT tenant, l.id, l.sku, l.warehouse_id, l.version, l.before, l.after, l.after - l.before,
      bulk_set_stock.reason, 'bench@example.com', at
    FROM levels l
  )
  SELECT l.sku, l.warehouse_id, l.before, l.after, l.id FROM levels l ORDER BY l.number;
  GET DIAGNOSTICS found = ROW_COUNT;
  IF found <> cardinality(codes) THEN
    RAISE EXCEPTION 'one of the stock levels does not exist';
  END IF;
  UPDATE sku s
  SET status = (
        SELECT stock_status(sum(l.on_hand - l.reserved), sum(l.safety_stock))
        FROM stock_level l WHERE l.tenant_id = tenant AND l.sku = s.sku
      ),
      version = version + 1,
      updated_at = at
  WHERE s.tenant_id = tenant AND s.sku = ANY (codes);
END
$$;

-- A plain function, so that PostgreSQL inlines it and its limit.
CREATE OR REPLACE FUNCTION skus_after(tenant text, code text) RETURNS SETOF sku
LANGUAGE sql STABLE AS $$
  SELECT * FROM sku WHERE tenant_id = tenant AND sku > code ORDER BY sku
$$;
