/* SPDX-License-Identifier: Apache-2.0 */
/* A shop of twelve services, after the OpenTelemetry demo: what calls what, and which attributes
 * the semantic conventions put on each call. */
#include "app/load/ops.h"

enum service {
    GATEWAY,
    FRONTEND,
    CATALOG,
    CART,
    CHECKOUT,
    CURRENCY,
    PAYMENT,
    SHIPPING,
    EMAIL,
    RECOMMEND,
    AD,
    ACCOUNTING
};

const struct op_service shop_services[] = {
    [GATEWAY] = {"gateway", "1.29.2", "cpp", "envoy", "envoy.http", "1.29.2"},
    [FRONTEND] = {"frontend", "2.4.1", "nodejs", "nodejs", "@opentelemetry/instrumentation-http",
                  "0.52.1"},
    [CATALOG] = {"catalog", "1.12.0", "go", "go",
                 "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
                 "0.53.0"},
    [CART] = {"cart", "3.0.7", "dotnet", ".NET", "Microsoft.AspNetCore", "8.0.6"},
    [CHECKOUT] = {"checkout", "1.12.0", "go", "go",
                  "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
                  "0.53.0"},
    [CURRENCY] = {"currency", "0.9.3", "cpp", "gcc", "currency", "0.9.3"},
    [PAYMENT] = {"payment", "1.8.2", "nodejs", "nodejs", "@opentelemetry/instrumentation-grpc",
                 "0.52.1"},
    [SHIPPING] = {"shipping", "0.4.0", "rust", "rustc", "opentelemetry-actix-web", "0.18.0"},
    [EMAIL] = {"email", "1.1.5", "ruby", "ruby", "OpenTelemetry::Instrumentation::Sinatra",
               "0.24.0"},
    [RECOMMEND] = {"recommendation", "2.2.0", "python", "cpython",
                   "opentelemetry.instrumentation.grpc", "0.46b0"},
    [AD] = {"ad", "5.3.1", "java", "OpenJDK Runtime Environment", "io.opentelemetry.grpc-1.6",
            "2.5.0-alpha"},
    [ACCOUNTING] = {"accounting", "1.0.9", "dotnet", ".NET",
                    "OpenTelemetry.AutoInstrumentation.Kafka", "1.7.0"},
};
const unsigned shop_service_count = ARRAY_LEN(shop_services);

enum operation {
    GW_HOME,
    GW_PRODUCT,
    GW_CART,
    GW_CHECKOUT,
    GW_EGRESS_HOME,
    GW_EGRESS_PRODUCT,
    GW_EGRESS_CART,
    GW_EGRESS_CHECKOUT,
    FE_HOME,
    FE_PRODUCT,
    FE_CART,
    FE_CHECKOUT,
    FE_LIST_PRODUCTS,
    FE_GET_PRODUCT,
    FE_CONVERT,
    FE_GET_ADS,
    FE_GET_CART,
    FE_ADD_ITEM,
    FE_RECOMMEND,
    FE_PLACE_ORDER,
    CATALOG_LIST,
    CATALOG_GET,
    CATALOG_DB_LIST,
    CATALOG_DB_GET,
    CURRENCY_CONVERT,
    AD_GET,
    AD_PICK,
    CART_GET,
    CART_ADD,
    CART_EMPTY,
    CART_REDIS_GET,
    CART_REDIS_SET,
    RECOMMEND_LIST,
    RECOMMEND_PRODUCTS,
    CHECKOUT_PLACE,
    CHECKOUT_PREPARE,
    CHECKOUT_CART,
    CHECKOUT_PRODUCT,
    CHECKOUT_CONVERT,
    CHECKOUT_QUOTE,
    CHECKOUT_CHARGE,
    CHECKOUT_SHIP,
    CHECKOUT_EMPTY,
    CHECKOUT_MAIL,
    CHECKOUT_PUBLISH,
    SHIPPING_QUOTE,
    SHIPPING_SHIP,
    PAYMENT_CHARGE,
    PAYMENT_DB,
    EMAIL_SEND,
    EMAIL_RENDER,
    ACCOUNTING_CONSUME,
    ACCOUNTING_DB
};

#define TEXT(key, value)            \
    {                               \
        key, MAKE_TEXT, value, 0, 0 \
    }
#define INT(key, value)             \
    {                               \
        key, MAKE_INT, "", value, 0 \
    }
#define PICK(key, words)            \
    {                               \
        key, MAKE_PICK, words, 0, 0 \
    }
#define RANGE(key, n, m)          \
    {                             \
        key, MAKE_RANGE, "", n, m \
    }
#define SKEWED(key, n, m)          \
    {                              \
        key, MAKE_SKEWED, "", n, m \
    }
#define MADE(key, how)            \
    {                             \
        key, MAKE_##how, "", 0, 0 \
    }
#define PATH(key, text)            \
    {                              \
        key, MAKE_PATH, text, 0, 0 \
    }
#define CALL(op, least, most) \
    {                         \
        op, least, most       \
    }

/* What a web server notes about a request from outside. */
#define WEB_IN(method, route, path)                                                     \
    TEXT("http.request.method", method), TEXT("http.route", route), path,               \
        TEXT("url.scheme", "https"), TEXT("server.address", "shop.example.com"),        \
        MADE("client.address", ADDRESS), MADE("user_agent.original", AGENT),            \
        TEXT("network.protocol.version", "2"), MADE("http.response.status_code", HTTP), \
        SKEWED("http.response.body.size", 120, 60000), MADE("session.id", SESSION)

#define WEB_OUT(method, path, host)                                                       \
    TEXT("http.request.method", method), path, TEXT("server.address", host),              \
        INT("server.port", 8080), MADE("network.peer.address", POD),                      \
        TEXT("network.protocol.version", "1.1"), MADE("http.response.status_code", HTTP), \
        SKEWED("http.request.body.size", 0, 4000), TEXT("upstream_cluster.name", host),   \
        MADE("user_agent.original", AGENT), MADE("guid:x-request-id", UUID)

#define RPC_OUT(service, method, host)                                                             \
    TEXT("rpc.system", "grpc"), TEXT("rpc.service", "com.example.storefront." service),            \
        TEXT("rpc.method", method), MADE("rpc.grpc.status_code", RPC),                             \
        TEXT("server.address", host ".shop.svc.cluster.local"), INT("server.port", 8080),          \
        MADE("network.peer.address", POD), INT("network.peer.port", 8080),                         \
        TEXT("network.type", "ipv4"),                                                              \
        TEXT("code.function.name", "com.example.storefront." service "Grpc$BlockingStub." method), \
        MADE("session.id", SESSION)

#define RPC_IN(service, method)                                                                \
    TEXT("rpc.system", "grpc"), TEXT("rpc.service", "com.example.storefront." service),        \
        TEXT("rpc.method", method), MADE("rpc.grpc.status_code", RPC),                         \
        MADE("client.address", POD), RANGE("client.port", 32768, 60999),                       \
        TEXT("network.protocol.version", "2"),                                                 \
        TEXT("code.function.name", "com.example.storefront." service "Grpc$ImplBase." method), \
        TEXT("user_agent.original", "grpc-node-js/1.10.10 linux"), RANGE("thread.id", 1, 64),  \
        MADE("session.id", SESSION)

#define SQL(name, operation, table, text)                                                       \
    TEXT("db.system.name", "postgresql"), TEXT("db.namespace", name),                           \
        TEXT("db.operation.name", operation), TEXT("db.collection.name", table),                \
        TEXT("db.query.text", text), TEXT("server.address", "postgres.shop.svc.cluster.local"), \
        INT("server.port", 5432), MADE("network.peer.address", POD),                            \
        SKEWED("db.response.returned_rows", 0, 200), RANGE("thread.id", 1, 64),                 \
        MADE("session.id", SESSION)

#define REDIS(operation, text)                                                                 \
    TEXT("db.system.name", "redis"), TEXT("db.operation.name", operation),                     \
        TEXT("db.query.text", text), TEXT("db.namespace", "0"),                                \
        TEXT("server.address", "valkey.shop.svc.cluster.local"), INT("server.port", 6379),     \
        MADE("network.peer.address", POD), INT("network.peer.port", 6379),                     \
        TEXT("network.type", "ipv4"), TEXT("network.transport", "tcp"), MADE("user.id", USER), \
        MADE("session.id", SESSION)

const struct op shop_ops[] = {
    /* --- gateway: from the browser in, to the frontend out --- */
    [GW_HOME] = {GATEWAY,
                 KIND_SERVER,
                 "GET /",
                 350,
                 {WEB_IN("GET", "/", TEXT("url.path", "/")), MADE("guid:x-request-id", UUID)},
                 {CALL(GW_EGRESS_HOME, 1, 1)}},
    [GW_PRODUCT] = {GATEWAY,
                    KIND_SERVER,
                    "GET /product/{id}",
                    350,
                    {WEB_IN("GET", "/product/{id}", PATH("url.path", "/product/")),
                     MADE("guid:x-request-id", UUID)},
                    {CALL(GW_EGRESS_PRODUCT, 1, 1)}},
    [GW_CART] = {GATEWAY,
                 KIND_SERVER,
                 "POST /api/cart",
                 350,
                 {WEB_IN("POST", "/api/cart", TEXT("url.path", "/api/cart")),
                  MADE("guid:x-request-id", UUID)},
                 {CALL(GW_EGRESS_CART, 1, 1)}},
    [GW_CHECKOUT] = {GATEWAY,
                     KIND_SERVER,
                     "POST /api/checkout",
                     350,
                     {WEB_IN("POST", "/api/checkout", TEXT("url.path", "/api/checkout")),
                      MADE("guid:x-request-id", UUID)},
                     {CALL(GW_EGRESS_CHECKOUT, 1, 1)}},
    [GW_EGRESS_HOME] = {GATEWAY,
                        KIND_CLIENT,
                        "router frontend egress",
                        250,
                        {WEB_OUT("GET", TEXT("url.full", "http://frontend:8080/"), "frontend")},
                        {CALL(FE_HOME, 1, 1)}},
    [GW_EGRESS_PRODUCT] = {GATEWAY,
                           KIND_CLIENT,
                           "router frontend egress",
                           250,
                           {WEB_OUT("GET", PATH("url.full", "http://frontend:8080/product/"),
                                    "frontend")},
                           {CALL(FE_PRODUCT, 1, 1)}},
    [GW_EGRESS_CART] = {GATEWAY,
                        KIND_CLIENT,
                        "router frontend egress",
                        250,
                        {WEB_OUT("POST", TEXT("url.full", "http://frontend:8080/api/cart"),
                                 "frontend")},
                        {CALL(FE_CART, 1, 1)}},
    [GW_EGRESS_CHECKOUT] = {GATEWAY,
                            KIND_CLIENT,
                            "router frontend egress",
                            250,
                            {WEB_OUT("POST", TEXT("url.full", "http://frontend:8080/api/checkout"),
                                     "frontend")},
                            {CALL(FE_CHECKOUT, 1, 1)}},

    /* --- frontend --- */
    [FE_HOME] = {FRONTEND,
                 KIND_SERVER,
                 "GET /",
                 2200,
                 {WEB_IN("GET", "/", TEXT("url.path", "/")), MADE("user.id", USER)},
                 {CALL(FE_GET_CART, 1, 1), CALL(FE_LIST_PRODUCTS, 1, 1), CALL(FE_CONVERT, 6, 12),
                  CALL(FE_GET_ADS, 1, 1)}},
    [FE_PRODUCT] = {FRONTEND,
                    KIND_SERVER,
                    "GET /product/{id}",
                    1800,
                    {WEB_IN("GET", "/product/{id}", PATH("url.path", "/product/")),
                     MADE("user.id", USER)},
                    {CALL(FE_GET_PRODUCT, 1, 1), CALL(FE_GET_CART, 1, 1), CALL(FE_CONVERT, 1, 1),
                     CALL(FE_RECOMMEND, 1, 1), CALL(FE_GET_PRODUCT, 1, 5), CALL(FE_GET_ADS, 1, 1)}},
    [FE_CART] = {FRONTEND,
                 KIND_SERVER,
                 "POST /api/cart",
                 1500,
                 {WEB_IN("POST", "/api/cart", TEXT("url.path", "/api/cart")),
                  MADE("user.id", USER)},
                 {CALL(FE_GET_PRODUCT, 1, 1), CALL(FE_ADD_ITEM, 1, 1), CALL(FE_GET_CART, 1, 1),
                  CALL(FE_GET_PRODUCT, 1, 4), CALL(FE_CONVERT, 1, 4), CALL(FE_RECOMMEND, 1, 1)}},
    [FE_CHECKOUT] = {FRONTEND,
                     KIND_SERVER,
                     "POST /api/checkout",
                     2600,
                     {WEB_IN("POST", "/api/checkout", TEXT("url.path", "/api/checkout")),
                      MADE("user.id", USER)},
                     {CALL(FE_PLACE_ORDER, 1, 1), CALL(FE_GET_PRODUCT, 1, 3)}},
    [FE_LIST_PRODUCTS] = {FRONTEND,
                          KIND_CLIENT,
                          "shop.CatalogService/ListProducts",
                          600,
                          {RPC_OUT("shop.CatalogService", "ListProducts", "catalog")},
                          {CALL(CATALOG_LIST, 1, 1)}},
    [FE_GET_PRODUCT] = {FRONTEND,
                        KIND_CLIENT,
                        "shop.CatalogService/GetProduct",
                        500,
                        {RPC_OUT("shop.CatalogService", "GetProduct", "catalog"),
                         MADE("app.product.id", PRODUCT)},
                        {CALL(CATALOG_GET, 1, 1)}},
    [FE_CONVERT] = {FRONTEND,
                    KIND_CLIENT,
                    "shop.CurrencyService/Convert",
                    400,
                    {RPC_OUT("shop.CurrencyService", "Convert", "currency")},
                    {CALL(CURRENCY_CONVERT, 1, 1)}},
    [FE_GET_ADS] = {FRONTEND,
                    KIND_CLIENT,
                    "shop.AdService/GetAds",
                    500,
                    {RPC_OUT("shop.AdService", "GetAds", "ad")},
                    {CALL(AD_GET, 1, 1)}},
    [FE_GET_CART] = {FRONTEND,
                     KIND_CLIENT,
                     "shop.CartService/GetCart",
                     500,
                     {RPC_OUT("shop.CartService", "GetCart", "cart"), MADE("user.id", USER)},
                     {CALL(CART_GET, 1, 1)}},
    [FE_ADD_ITEM] = {FRONTEND,
                     KIND_CLIENT,
                     "shop.CartService/AddItem",
                     500,
                     {RPC_OUT("shop.CartService", "AddItem", "cart"), MADE("user.id", USER)},
                     {CALL(CART_ADD, 1, 1)}},
    [FE_RECOMMEND] = {FRONTEND,
                      KIND_CLIENT,
                      "shop.RecommendationService/ListRecommendations",
                      600,
                      {RPC_OUT("shop.RecommendationService", "ListRecommendations",
                               "recommendation"),
                       MADE("user.id", USER)},
                      {CALL(RECOMMEND_LIST, 1, 1)}},
    [FE_PLACE_ORDER] = {FRONTEND,
                        KIND_CLIENT,
                        "shop.CheckoutService/PlaceOrder",
                        900,
                        {RPC_OUT("shop.CheckoutService", "PlaceOrder", "checkout"),
                         MADE("user.id", USER)},
                        {CALL(CHECKOUT_PLACE, 1, 1)}},

    /* --- catalog --- */
    [CATALOG_LIST] = {CATALOG,
                      KIND_SERVER,
                      "shop.CatalogService/ListProducts",
                      900,
                      {RPC_IN("shop.CatalogService", "ListProducts"),
                       SKEWED("app.products.count", 5, 100),
                       PICK("app.feature.sort", "price|name|rating|newest")},
                      {CALL(CATALOG_DB_LIST, 1, 1)}},
    [CATALOG_GET] = {CATALOG,
                     KIND_SERVER,
                     "shop.CatalogService/GetProduct",
                     300,
                     {RPC_IN("shop.CatalogService", "GetProduct"), MADE("app.product.id", PRODUCT),
                      PICK("app.cache.result", "hit|miss|miss|stale")},
                     {CALL(CATALOG_DB_GET, 1, 1)}},
    [CATALOG_DB_LIST] = {CATALOG,
                         KIND_CLIENT,
                         "SELECT catalog.products",
                         3200,
                         {SQL("catalog", "SELECT", "products",
                              "SELECT id, name, description, picture, price_units, price_nanos, "
                              "currency_code, categories FROM products ORDER BY $1 LIMIT $2")},
                         {{0}}},
    [CATALOG_DB_GET] = {CATALOG,
                        KIND_CLIENT,
                        "SELECT catalog.products",
                        1100,
                        {SQL("catalog", "SELECT", "products",
                             "SELECT id, name, description, price_units, price_nanos, "
                             "currency_code FROM products WHERE id = $1"),
                         MADE("db.query.parameter.1", PRODUCT)},
                        {{0}}},
    /* --- currency --- */
    [CURRENCY_CONVERT] = {CURRENCY,
                          KIND_SERVER,
                          "shop.CurrencyService/Convert",
                          180,
                          {RPC_IN("shop.CurrencyService", "Convert"),
                           PICK("app.currency.conversion.from", "USD|EUR|GBP|JPY|CHF|SEK"),
                           PICK("app.currency.conversion.to", "USD|EUR|GBP|TWD|KRW|CNY|CAD"),
                           {"app.currency.rate", MAKE_DOUBLE, "", 0, 150}},
                          {{0}}},
    /* --- ad --- */
    [AD_GET] = {AD,
                KIND_SERVER,
                "shop.AdService/GetAds",
                800,
                {RPC_IN("shop.AdService", "GetAds"), SKEWED("app.ads.count", 1, 6),
                 PICK("app.ads.category",
                      "telescopes|binoculars|accessories|assembly|travel|books"),
                 TEXT("thread.name", "grpc-default-executor-7")},
                {CALL(AD_PICK, 1, 1)}},
    [AD_PICK] = {AD,
                 KIND_INTERNAL,
                 "getAdsByCategory",
                 400,
                 {PICK("app.ads.category",
                       "telescopes|binoculars|accessories|assembly|travel|books"),
                  SKEWED("app.ads.count", 1, 6), RANGE("thread.id", 1, 64),
                  TEXT("thread.name", "grpc-default-executor-7"),
                  TEXT("code.function.name", "shop.ad.AdService.getAdsByCategory"),
                  RANGE("app.ads.campaign", 1000, 1400), MADE("session.id", SESSION)},
                 {{0}}},
    /* --- cart --- */
    [CART_GET] = {CART,
                  KIND_SERVER,
                  "POST /shop.CartService/GetCart",
                  500,
                  {RPC_IN("shop.CartService", "GetCart"), MADE("user.id", USER),
                   SKEWED("app.cart.items.count", 0, 20)},
                  {CALL(CART_REDIS_GET, 1, 1)}},
    [CART_ADD] = {CART,
                  KIND_SERVER,
                  "POST /shop.CartService/AddItem",
                  600,
                  {RPC_IN("shop.CartService", "AddItem"), MADE("user.id", USER),
                   MADE("app.product.id", PRODUCT), SKEWED("app.product.quantity", 1, 10)},
                  {CALL(CART_REDIS_GET, 1, 1), CALL(CART_REDIS_SET, 1, 1)}},
    [CART_EMPTY] = {CART,
                    KIND_SERVER,
                    "POST /shop.CartService/EmptyCart",
                    400,
                    {RPC_IN("shop.CartService", "EmptyCart"), MADE("user.id", USER)},
                    {CALL(CART_REDIS_SET, 1, 1)}},
    [CART_REDIS_GET] = {CART,
                        KIND_CLIENT,
                        "HGET",
                        350,
                        {REDIS("HGET", "HGET cart:? items currency updated_at")},
                        {{0}}},
    [CART_REDIS_SET] = {CART,
                        KIND_CLIENT,
                        "HMSET",
                        420,
                        {REDIS("HMSET", "HMSET cart:? items ? currency ? updated_at ?")},
                        {{0}}},

    /* --- recommendation --- */
    [RECOMMEND_LIST] = {RECOMMEND,
                        KIND_SERVER,
                        "shop.RecommendationService/ListRecommendations",
                        2100,
                        {RPC_IN("shop.RecommendationService", "ListRecommendations"),
                         RANGE("app.products_recommended.count", 3, 5),
                         {"app.cache_hit", MAKE_BOOL, "", 70, 0},
                         MADE("user.id", USER)},
                        {CALL(RECOMMEND_PRODUCTS, 1, 1)}},
    [RECOMMEND_PRODUCTS] = {RECOMMEND,
                            KIND_CLIENT,
                            "/shop.CatalogService/ListProducts",
                            700,
                            {RPC_OUT("shop.CatalogService", "ListProducts", "catalog")},
                            {CALL(CATALOG_LIST, 1, 1)}},

    /* --- checkout --- */
    [CHECKOUT_PLACE] = {CHECKOUT,
                        KIND_SERVER,
                        "shop.CheckoutService/PlaceOrder",
                        1300,
                        {RPC_IN("shop.CheckoutService", "PlaceOrder"),
                         MADE("app.order.id", UUID),
                         {"app.order.amount", MAKE_DOUBLE, "", 5, 3000},
                         MADE("user.id", USER),
                         PICK("app.user.currency", "USD|EUR|GBP|TWD|KRW|CNY|CAD")},
                        {CALL(CHECKOUT_PREPARE, 1, 1), CALL(CHECKOUT_CHARGE, 1, 1),
                         CALL(CHECKOUT_SHIP, 1, 1), CALL(CHECKOUT_EMPTY, 1, 1),
                         CALL(CHECKOUT_MAIL, 1, 1), CALL(CHECKOUT_PUBLISH, 1, 1)}},
    [CHECKOUT_PREPARE] = {CHECKOUT,
                          KIND_INTERNAL,
                          "prepareOrderItemsAndShippingQuoteFromCart",
                          500,
                          {SKEWED("app.cart.items.count", 1, 20),
                           SKEWED("app.order.items.count", 1, 9),
                           {"app.shipping.amount", MAKE_DOUBLE, "", 3, 60},
                           MADE("user.id", USER),
                           MADE("session.id", SESSION),
                           RANGE("thread.id", 1, 64),
                           TEXT("code.function.name", "main.(*checkout).prepareOrderItems")},
                          {CALL(CHECKOUT_CART, 1, 1), CALL(CHECKOUT_PRODUCT, 1, 3),
                           CALL(CHECKOUT_CONVERT, 1, 3), CALL(CHECKOUT_QUOTE, 1, 1)}},
    [CHECKOUT_CART] = {CHECKOUT,
                       KIND_CLIENT,
                       "shop.CartService/GetCart",
                       450,
                       {RPC_OUT("shop.CartService", "GetCart", "cart"), MADE("user.id", USER)},
                       {CALL(CART_GET, 1, 1)}},
    [CHECKOUT_PRODUCT] = {CHECKOUT,
                          KIND_CLIENT,
                          "shop.CatalogService/GetProduct",
                          450,
                          {RPC_OUT("shop.CatalogService", "GetProduct", "catalog"),
                           MADE("app.product.id", PRODUCT)},
                          {CALL(CATALOG_GET, 1, 1)}},
    [CHECKOUT_CONVERT] = {CHECKOUT,
                          KIND_CLIENT,
                          "shop.CurrencyService/Convert",
                          350,
                          {RPC_OUT("shop.CurrencyService", "Convert", "currency")},
                          {CALL(CURRENCY_CONVERT, 1, 1)}},
    [CHECKOUT_QUOTE] = {CHECKOUT,
                        KIND_CLIENT,
                        "HTTP POST",
                        600,
                        {WEB_OUT("POST", TEXT("url.full", "http://shipping:8080/get-quote"),
                                 "shipping")},
                        {CALL(SHIPPING_QUOTE, 1, 1)}},
    [CHECKOUT_CHARGE] = {CHECKOUT,
                         KIND_CLIENT,
                         "shop.PaymentService/Charge",
                         700,
                         {RPC_OUT("shop.PaymentService", "Charge", "payment"),
                          MADE("app.order.id", UUID)},
                         {CALL(PAYMENT_CHARGE, 1, 1)}},
    [CHECKOUT_SHIP] = {CHECKOUT,
                       KIND_CLIENT,
                       "HTTP POST",
                       600,
                       {WEB_OUT("POST", TEXT("url.full", "http://shipping:8080/ship-order"),
                                "shipping")},
                       {CALL(SHIPPING_SHIP, 1, 1)}},
    [CHECKOUT_EMPTY] = {CHECKOUT,
                        KIND_CLIENT,
                        "shop.CartService/EmptyCart",
                        400,
                        {RPC_OUT("shop.CartService", "EmptyCart", "cart"), MADE("user.id", USER)},
                        {CALL(CART_EMPTY, 1, 1)}},
    [CHECKOUT_MAIL] =
        {CHECKOUT,
         KIND_CLIENT,
         "HTTP POST",
         600,
         {WEB_OUT("POST", TEXT("url.full", "http://email:8080/send_order_confirmation"), "email")},
         {CALL(EMAIL_SEND, 1, 1)}},
    [CHECKOUT_PUBLISH] =
        {CHECKOUT,
         KIND_PRODUCER,
         "publish orders",
         900,
         {TEXT("messaging.system", "kafka"), TEXT("messaging.destination.name", "orders"),
          TEXT("messaging.operation.name", "publish"), TEXT("messaging.operation.type", "send"),
          RANGE("messaging.destination.partition.id", 0, 11),
          MADE("messaging.kafka.offset", SEQUENCE), MADE("messaging.kafka.message.key", UUID),
          SKEWED("messaging.message.body.size", 200, 4000),
          TEXT("server.address", "kafka.shop.svc"), INT("server.port", 9092),
          TEXT("messaging.client.id", "checkout-producer"), TEXT("network.transport", "tcp")},
         {CALL(ACCOUNTING_CONSUME, 1, 1)}},

    /* --- shipping, payment, email, accounting --- */
    [SHIPPING_QUOTE] = {SHIPPING,
                        KIND_SERVER,
                        "POST /get-quote",
                        1700,
                        {WEB_IN("POST", "/get-quote", TEXT("url.path", "/get-quote")),
                         {"app.quote.cost.total", MAKE_DOUBLE, "", 3, 60}},
                        {{0}}},
    [SHIPPING_SHIP] = {SHIPPING,
                       KIND_SERVER,
                       "POST /ship-order",
                       1300,
                       {WEB_IN("POST", "/ship-order", TEXT("url.path", "/ship-order")),
                        MADE("app.shipping.tracking.id", UUID)},
                       {{0}}},
    [PAYMENT_CHARGE] = {PAYMENT,
                        KIND_SERVER,
                        "shop.PaymentService/Charge",
                        2400,
                        {RPC_IN("shop.PaymentService", "Charge"),
                         PICK("app.payment.card_type", "visa|visa|mastercard|amex|jcb"),
                         {"app.payment.charged", MAKE_BOOL, "", 98, 0},
                         {"app.payment.amount", MAKE_DOUBLE, "", 5, 3000},
                         MADE("app.payment.transaction.id", UUID)},
                        {CALL(PAYMENT_DB, 1, 1)}},
    [PAYMENT_DB] =
        {PAYMENT,
         KIND_CLIENT,
         "INSERT payments.charges",
         1900,
         {SQL("payments", "INSERT", "charges",
              "INSERT INTO charges (id, order_id, amount, currency, card_last4, created_at) "
              "VALUES ($1, $2, $3, $4, $5, now())"),
          MADE("db.query.parameter.1", UUID)},
         {{0}}},
    [EMAIL_SEND] = {EMAIL,
                    KIND_SERVER,
                    "POST /send_order_confirmation",
                    2800,
                    {WEB_IN("POST", "/send_order_confirmation",
                            TEXT("url.path", "/send_order_confirmation")),
                     MADE("app.order.id", UUID)},
                    {CALL(EMAIL_RENDER, 1, 1)}},
    [EMAIL_RENDER] = {EMAIL,
                      KIND_INTERNAL,
                      "sinatra.render_template",
                      5200,
                      {TEXT("sinatra.template_name", "confirmation"),
                       TEXT("code.function.name", "erb"), SKEWED("app.email.bytes", 2000, 40000),
                       MADE("app.order.id", UUID), MADE("user.id", USER), RANGE("thread.id", 1, 16),
                       PICK("app.email.locale", "en|en|de|fr|ja|ko|zh-TW")},
                      {{0}}},
    [ACCOUNTING_CONSUME] =
        {ACCOUNTING,
         KIND_CONSUMER,
         "process orders",
         2600,
         {TEXT("messaging.system", "kafka"), TEXT("messaging.destination.name", "orders"),
          TEXT("messaging.operation.name", "process"), TEXT("messaging.operation.type", "process"),
          RANGE("messaging.destination.partition.id", 0, 11),
          MADE("messaging.kafka.offset", SEQUENCE),
          TEXT("messaging.consumer.group.name", "accounting"),
          SKEWED("messaging.message.body.size", 200, 4000), MADE("app.order.id", UUID),
          TEXT("server.address", "kafka.shop.svc"), INT("server.port", 9092),
          SKEWED("messaging.batch.message_count", 1, 50)},
         {CALL(ACCOUNTING_DB, 1, 3)}},
    [ACCOUNTING_DB] =
        {ACCOUNTING,
         KIND_CLIENT,
         "INSERT accounting.orders",
         1500,
         {SQL("accounting", "INSERT", "orders",
              "INSERT INTO orders (order_id, item_id, quantity, units, nanos, currency) "
              "VALUES ($1, $2, $3, $4, $5, $6)"),
          MADE("db.query.parameter.1", UUID)},
         {{0}}},
};
const unsigned shop_op_count = ARRAY_LEN(shop_ops);

const struct op_root shop_roots[] = {
    {GW_HOME, 40}, {GW_PRODUCT, 35}, {GW_CART, 15}, {GW_CHECKOUT, 10}, {0, 0}};

const struct op_service plain_services[] = {
    {"alpha", "1.0.0", "go", "go", "plain", "1.0.0"},
    {"beta", "1.0.0", "java", "OpenJDK Runtime Environment", "plain", "1.0.0"},
    {"gamma", "1.0.0", "python", "cpython", "plain", "1.0.0"},
    {"delta", "1.0.0", "nodejs", "nodejs", "plain", "1.0.0"},
};
const unsigned plain_service_count = ARRAY_LEN(plain_services);

const struct op plain_op = {0,
                            KIND_INTERNAL,
                            "step",
                            300,
                            {TEXT("code.function.name", "plain.step"), RANGE("thread.id", 1, 64),
                             SKEWED("app.items", 0, 1000), MADE("session.id", SESSION)},
                            {{0}}};
