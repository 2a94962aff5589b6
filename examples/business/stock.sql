SELECT sku, on_hand, reserved, state FROM stock
