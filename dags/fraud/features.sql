-- Features that relate a transaction to the customer's habits and last event.
--
-- Reads `transactions`: the columns of transactions.csv, and those of the customer's last event before it
-- (event, event_country, event_at: null without an event), from the as-of join.
-- Adds:
--   amount_over_usual   amount / the customer's usual amount
--   abroad              the purchase is in another country than the customer's
--   announced           the customer announced a journey to that country
--   access_changed      the last event changed the access to the account
--   hours_since_event   hours from the last event to the transaction; null without an event
--   risky_category      the purchase can be turned into money at once
--   hour, night         hour of the day (0 to 23); whether it is before six
SELECT
    *,
    amount / usual_amount AS amount_over_usual,
    country <> home_country AS abroad,
    COALESCE(event = 'travel_notice' AND event_country = country, FALSE) AS announced,
    COALESCE(event IN ('login_new_device', 'password_change', 'phone_change'), FALSE) AS access_changed,
    (EXTRACT(EPOCH FROM CAST(at AS TIMESTAMP)) - EXTRACT(EPOCH FROM CAST(event_at AS TIMESTAMP))) / 3600.0
        AS hours_since_event,
    merchant_category IN ('gift_cards', 'crypto', 'money_transfer') AS risky_category,
    EXTRACT(HOUR FROM CAST(at AS TIMESTAMP)) AS hour,
    EXTRACT(HOUR FROM CAST(at AS TIMESTAMP)) < 6 AS night
FROM transactions
